"""The bag-of-words models that are compared over free text, each as one scikit-learn pipeline."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Signature
from servable.errors import SettingInvalid
from servable.training import candidates
from servable.training.candidates import DUMMY

RECURRENT = "recurrent"
#: The one candidate that reads everything but the texts, and so shows what they are worth.
TABLE = "lightgbm"
#: The plain model beside every other one.
PLAIN = "words"
#: Words of one letter count too; scikit-learn's own pattern leaves them out.
ONE_LETTER_WORDS = r"(?u)\b\w+\b"
#: Tokens of a vectorizer at most, the most frequent ones.
MOST_TOKENS = 100_000
#: When the solver stops, by whether there are more than two classes. Weak penalties need the tighter one to
#: come anywhere; many classes cost as many times more, and gain nothing beyond the looser one.
_TOLERANCE = {False: 1e-5, True: 3e-4}
#: Rows from which on a token must occur in two of them.
MANY_ROWS = 5_000

Params = Mapping[str, Any]


class Reading(NamedTuple):
    """One way in which a text column is read: a vectorizer's settings.

    Attributes:
        analyzer: ``word``, ``char`` or ``char_wb``.
        runs: shortest and longest run.
        rare: whether tokens that occur in a single row are kept in small sets.
    """

    analyzer: str
    runs: tuple[int, int]
    rare: bool

    def least(self, rows: int) -> int:
        """Rows that a token must occur in, when learning from so many."""
        return 1 if self.rare and rows < MANY_ROWS else 2

    def vectorizer(self, rows: int) -> TfidfVectorizer:
        """The unfitted vectorizer."""
        words = {"token_pattern": ONE_LETTER_WORDS} if self.analyzer == "word" else {}
        return TfidfVectorizer(
            analyzer=self.analyzer,
            ngram_range=self.runs,
            sublinear_tf=True,
            min_df=self.least(rows),
            max_features=MOST_TOKENS,
            **words,
        )


#: How texts are read, by whether their script puts blanks between words.
READINGS: dict[bool, dict[str, Reading]] = {
    True: {
        "words": Reading("word", (1, 2), rare=True),
        "characters": Reading("char_wb", (2, 5), rare=False),
    },
    False: {
        "words": Reading("char", (1, 2), rare=True),
        "characters": Reading("char", (1, 4), rare=False),
    },
}


class TextCandidate(NamedTuple):
    """A family of models over texts.

    Attributes:
        name: as on the leaderboard.
        title: for people.
        readings: names of the ways in which each text is read.
        strengths: values of its one parameter, the usual first.
        parameter: its name.
        others: whether it reads the columns that are no text too.
    """

    name: str
    title: str
    readings: tuple[str, ...] = ()
    strengths: tuple[float, ...] = ()
    parameter: str = ""
    others: bool = True


def listed(signature: Signature, *, spaced: bool) -> tuple[TextCandidate, ...]:
    """The candidates of a problem, in the order in which they are tried.

    Args:
        signature: of the problem.
        spaced: whether the script puts blanks between words.
    """
    task = signature.task
    words, runs = ("words", "character runs") if spaced else ("pairs of signs", "runs of up to 4 signs")
    if task == "regression":
        kind, strengths, parameter = "ridge regression", (1.0, 0.3, 3.0, 10.0), "alpha"
        dummy = TextCandidate(DUMMY, "mean", others=False)
    else:
        kind, strengths, parameter = "logistic regression", (6.0, 20.0, 2.0, 60.0), "C"
        dummy = TextCandidate(DUMMY, "most frequent class", others=False)
    found = [
        dummy,
        TextCandidate(PLAIN, f"{words}, {kind}", ("words",), strengths, parameter),
        TextCandidate("characters", f"{runs}, {kind}", ("characters",), strengths, parameter),
    ]
    if spaced:
        both = ("words", "characters")
        found.insert(
            2, TextCandidate("words_characters", f"{words} and {runs}, {kind}", both, strengths, parameter)
        )
    if task == "classification":
        alphas = (0.5, 0.2, 1.0)
        bayes = TextCandidate(
            "naive_bayes", f"{words}, naive Bayes", ("words",), alphas, "alpha", others=False
        )
        found += [bayes, TextCandidate(RECURRENT, "recurrent network (GRU)", others=False)]
    if any(field.kind != "text" for field in signature.inputs):
        found.append(TextCandidate(TABLE, "LightGBM boosted trees without the texts"))
    return tuple(found)


def candidate(signature: Signature, name: str, *, spaced: bool) -> TextCandidate:
    """The candidate of this name.

    Raises:
        SettingInvalid: there is none; the message lists those there are.
    """
    known = listed(signature, spaced=spaced)
    for each in known:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in known)
    raise SettingInvalid(
        f"No {signature.task} model over texts is called {name!r}; choose auto or one of {names}."
    )


def estimator(signature: Signature, known: TextCandidate, params: Params, seed: int) -> Any:
    """The unfitted last step of a candidate.

    Args:
        signature: of the problem.
        known: any candidate but the recurrent network.
        params: its parameter, and ``class_weight``.
        seed: of the solver.
    """
    usual = {known.parameter: known.strengths[0]} if known.strengths else {}
    settings = {**usual, **params}
    if signature.task == "regression":
        return (
            DummyRegressor(strategy="mean") if known.name == DUMMY else Ridge(**settings, random_state=seed)
        )
    if known.name == DUMMY:
        return DummyClassifier(strategy="prior")
    if known.name == "naive_bayes":
        return ComplementNB(**settings)
    tolerance = _TOLERANCE[len(signature.classes) > 2]
    return LogisticRegression(max_iter=400, tol=tolerance, random_state=seed, **settings)


def pipeline(
    signature: Signature, known: TextCandidate, params: Params, *, rows: int, spaced: bool, seed: int
) -> Pipeline:
    """An unfitted pipeline of two steps, ``prepare`` and ``model``, for so many rows."""
    if known.name == TABLE:
        return candidates.build(signature, TABLE, params, seed=seed, jobs=candidates.threads(rows))
    texts = [field for field in signature.inputs if field.kind == "text"]
    steps: list[tuple[str, Any, Any]] = []
    for reading in known.readings or (PLAIN,):
        for place, field in enumerate(texts):
            vectorizer = READINGS[spaced][reading].vectorizer(rows)
            if known.name == DUMMY:
                vectorizer.set_params(max_features=1, min_df=1)
            steps.append((f"{reading}_{place}", vectorizer, field.name))
    if known.others:
        steps += others(signature)
    prepare = ColumnTransformer(steps, sparse_threshold=1.0)
    return Pipeline([("prepare", prepare), ("model", estimator(signature, known, params, seed))])


def others(signature: Signature) -> list[tuple[str, Any, Any]]:
    """The steps of a ColumnTransformer for the columns that are no text, as linear models take them."""
    return list(candidates.prepare(signature, dense=True).transformers)
