"""Small text pipelines to compile, and texts to ask them for."""

from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

GOOD = (
    "a good film",
    "Great, really GREAT acting",
    "I like it",
    "wonderful café",
    "很好的酒店",
    "3 of 3 stars",
)
BAD = ("a bad film", "boring, do not like it", "Straße of tears", "terrible food", "酒店很差", "0 of 3 stars")
DULL = ("a film", "it is long", "some people act", "a café", "一家酒店", "stars")
TEXTS = [f"{text}{end}" for end in (".", "!", " indeed", "\n") for text in (*GOOD, *BAD, *DULL)]
TWO = [label for _ in range(4) for label in (["good"] * 6 + ["bad"] * 12)]
THREE = [label for _ in range(4) for label in (["good"] * 6 + ["bad"] * 6 + ["dull"] * 6)]


def words(**settings: Any) -> TfidfVectorizer:
    return TfidfVectorizer(**settings)


def runs(**settings: Any) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **settings)


def pipelines() -> dict[str, tuple[Pipeline, list[Any]]]:
    """Unfitted pipelines by what is particular about them, with the labels that they learn."""
    logistic, descent = LogisticRegression, SGDClassifier
    counted = make_union(CountVectorizer(), CountVectorizer(analyzer="char", ngram_range=(2, 2)))
    return {
        "words": (make_pipeline(words(), logistic()), TWO),
        "three classes": (make_pipeline(words(ngram_range=(1, 3), sublinear_tf=True), logistic()), THREE),
        "no accents": (make_pipeline(words(strip_accents="unicode", stop_words="english"), logistic()), TWO),
        "ascii": (make_pipeline(words(strip_accents="ascii", lowercase=False), LinearSVC()), THREE),
        "pattern": (make_pipeline(words(token_pattern=r"[^\W\d_]+|\d"), Perceptron()), TWO),
        "capturing pattern": (make_pipeline(words(token_pattern=r"(\w+)[.!]?"), RidgeClassifier()), TWO),
        "characters in words": (make_pipeline(runs(), descent(loss="log_loss", random_state=0)), THREE),
        "characters": (
            make_pipeline(
                CountVectorizer(analyzer="char", ngram_range=(1, 3)), TfidfTransformer(norm="l1"), logistic()
            ),
            THREE,
        ),
        "clipped": (make_pipeline(words(norm=None), descent(loss="modified_huber", random_state=0)), THREE),
        "clipped, two": (
            make_pipeline(words(binary=True), descent(loss="modified_huber", random_state=0)),
            TWO,
        ),
        "multinomial": (make_pipeline(CountVectorizer(), MultinomialNB()), THREE),
        "complement": (make_pipeline(words(use_idf=False), ComplementNB()), THREE),
        "bernoulli": (make_pipeline(CountVectorizer(), BernoulliNB()), THREE),
        "union": (make_pipeline(make_union(words(), runs()), logistic()), THREE),
        "counted together": (make_pipeline(counted, TfidfTransformer(), logistic()), THREE),
        "normalised": (make_pipeline(CountVectorizer(), Normalizer("l1"), logistic()), TWO),
        "chosen": (make_pipeline(words(), SelectKBest(chi2, k=9), MaxAbsScaler(), logistic()), THREE),
        "projected": (
            make_pipeline(words(), TruncatedSVD(4, random_state=0), StandardScaler(), logistic()),
            THREE,
        ),
        "value": (make_pipeline(words(), Ridge()), [float(len(text)) for text in TEXTS]),
    }


def packed(texts: list[str]) -> dict[str, np.ndarray]:
    """Texts as one packed column."""
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return {"strings": array}
