"""What a fitted vectorizer of scikit-learn counts and how it weighs the counts, as records."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.frameworks.text_program import Bag, Part
from servable.frameworks.text_tokens import WORDS, Analyzer, harmless
from servable.optimization.graph import Unconvertible

#: The vectorizers that have a vocabulary.
COUNTERS = ("CountVectorizer", "TfidfVectorizer")


class Weighting(NamedTuple):
    """How a vectorizer weighs its counts; see ``Part``."""

    sublinear: bool = False
    idf: NDArray[np.float64] | None = None
    norm: str = ""

    @property
    def plain(self) -> bool:
        """Whether the counts stay as they are."""
        return not self.sublinear and self.idf is None and not self.norm

    def part(self, bags: tuple[Bag, ...]) -> Part:
        """A part of these bags."""
        norm: Any = self.norm
        return Part(bags=bags, sublinear=self.sublinear, idf=self.idf is not None, norm=norm)


def tokens_of(vectorizer: Any) -> int:
    """How many tokens a fitted vectorizer knows."""
    return len(vectorizer.vocabulary_)


def bag_of(vectorizer: Any, column: int) -> tuple[Bag, Weighting]:
    """The bag of a fitted vectorizer over the text column of this place, and its weighting.

    Raises:
        Unconvertible: it runs Python of the user's, or reads something other than text.
    """
    analyzer = _analyzer(vectorizer)
    number = vectorizer.vocabulary_
    vocabulary: list[str] = [""] * len(number)
    for token, place in number.items():
        vocabulary[int(place)] = str(token)
    if any("\ud800" <= letter <= "\udfff" for token in vocabulary for letter in token):
        raise Unconvertible("its vocabulary holds halves of characters, which no text on the wire can hold")
    bag = Bag(column=column, analyzer=analyzer, vocabulary=tuple(vocabulary), binary=bool(vectorizer.binary))
    if type(vectorizer).__name__ == "CountVectorizer":
        return bag, Weighting()
    idf = np.asarray(vectorizer.idf_, dtype=np.float64) if vectorizer.use_idf else None
    return bag, Weighting(bool(vectorizer.sublinear_tf), idf, vectorizer.norm or "")


def _analyzer(vectorizer: Any) -> Analyzer:
    kind = type(vectorizer).__name__
    for name in ("analyzer", "preprocessor", "tokenizer", "strip_accents"):
        if callable(getattr(vectorizer, name)):
            raise Unconvertible(
                f"{kind} has a {name} of its own, which is Python code and no data, "
                "so the trained form serves in a process of its own"
            )
    if vectorizer.input != "content":
        raise Unconvertible(f"{kind} reads files and not texts")
    pattern = vectorizer.token_pattern or WORDS
    if vectorizer.analyzer == "word" and not harmless(pattern):
        raise Unconvertible(
            f"{kind} finds words by {pattern[:60]!r}, which could take for ever on a text made for it"
        )
    stop = vectorizer.get_stop_words() if vectorizer.analyzer == "word" else None
    shortest, longest = vectorizer.ngram_range
    return Analyzer(
        unit=vectorizer.analyzer,
        shortest=int(shortest),
        longest=int(longest),
        lowercase=bool(vectorizer.lowercase),
        accents=vectorizer.strip_accents or "",
        pattern=pattern if vectorizer.analyzer == "word" else WORDS,
        stop=tuple(sorted(stop or ())),
    )
