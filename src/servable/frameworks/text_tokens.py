"""Texts to tokens, from a description that can be written down and holds no code.

The three ways are those of scikit-learn's vectorizers, so that a pipeline trained there can be followed
exactly: words found by a regular expression, runs of characters over the whole text, and runs of
characters inside words that are padded with a blank.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import msgspec

from servable.errors import ArtifactUnreadable

#: scikit-learn's pattern for a word: two or more letters, digits or underscores.
WORDS = r"(?u)\b\w\w+\b"
#: Longest pattern that is taken.
_LONGEST_PATTERN = 200
#: What makes matching take more than a few passes over a text: a repeated group, a reference to a group, or
#: a condition on what stands around.
_SLOW = re.compile(r"\)\s*[*+{]|\\[1-9]|\(\?[=!<P(]")
_REPEATS = re.compile(r"(?<!\\)[*+]|\{\d*,\}")
#: Patterns may repeat without a bound this often; each may cost another pass.
_MOST_REPEATS = 2
_BLANKS = re.compile(r"\s\s+")

Analyse = Callable[[str], list[str]]


class Analyzer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a text becomes tokens.

    Attributes:
        unit: ``word``: what ``pattern`` finds; ``char``: characters; ``char_wb``: characters inside words.
        shortest: tokens are put together in runs of at least this many,
        longest: and at most this many.
        lowercase: whether the text is put in lower case first.
        accents: ``unicode`` takes combining marks off after NFKD, ``ascii`` drops all that is not ASCII then.
        pattern: a regular expression for a word, see ``harmless``.
        stop: words that are passed over.
    """

    unit: Literal["word", "char", "char_wb"]
    shortest: int = 1
    longest: int = 1
    lowercase: bool = True
    accents: Literal["", "ascii", "unicode"] = ""
    pattern: str = WORDS
    stop: tuple[str, ...] = ()


def harmless(pattern: str) -> bool:
    """Whether a regular expression takes time about in proportion to the text, whatever the text is. Pure.

    Cautious: refuses repeated groups, look-around and references to groups, which most patterns do without.
    """
    if len(pattern) > _LONGEST_PATTERN or _SLOW.search(pattern):
        return False
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError):
        return False
    return compiled.groups <= 1 and len(_REPEATS.findall(pattern)) <= _MOST_REPEATS


def analyse(analyzer: Analyzer) -> Analyse:
    """The function from a text to its tokens, repeated ones repeated. Pure, and safe to share.

    Raises:
        ArtifactUnreadable: the pattern is none, or could take for ever.
    """
    tokens = _tokens(analyzer)
    if not analyzer.accents and not analyzer.lowercase:
        return tokens
    strip = _STRIPPERS[analyzer.accents]
    if not analyzer.lowercase:
        return lambda text: tokens(strip(text))
    if not analyzer.accents:
        return lambda text: tokens(text.lower())
    return lambda text: tokens(strip(text.lower()))


def _tokens(analyzer: Analyzer) -> Analyse:
    shortest, longest = analyzer.shortest, analyzer.longest
    if not 1 <= shortest <= longest:
        raise ArtifactUnreadable(
            f"A text model takes runs of {shortest} to {longest} tokens, which are none."
        )
    if analyzer.unit == "char":
        return lambda text: _runs(_BLANKS.sub(" ", text), shortest, longest)
    if analyzer.unit == "char_wb":
        return lambda text: _runs_in_words(text, shortest, longest)
    if not harmless(analyzer.pattern):
        raise ArtifactUnreadable(
            f"A text model finds words by {analyzer.pattern[:60]!r}, which is no pattern that is served."
        )
    find = re.compile(analyzer.pattern).findall
    if analyzer.stop:
        stop = frozenset(analyzer.stop)
        return lambda text: _word_runs([word for word in find(text) if word not in stop], shortest, longest)
    if longest == 1:
        return find
    return lambda text: _word_runs(find(text), shortest, longest)


def _word_runs(words: list[str], shortest: int, longest: int) -> list[str]:
    """Runs of words, joined by a blank."""
    if shortest == 1 and longest == 2:
        return [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    found: list[str] = []
    for size in range(shortest, longest + 1):
        if size == 1:
            found += words
        else:
            found += [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]
    return found


def _runs(text: str, shortest: int, longest: int) -> list[str]:
    """Runs of characters."""
    found: list[str] = []
    for size in range(shortest, longest + 1):
        found += [text[at : at + size] for at in range(len(text) - size + 1)]
    return found


def _runs_in_words(text: str, shortest: int, longest: int) -> list[str]:
    """Runs of characters inside words with a blank on both sides; a word shorter than a run counts once."""
    found: list[str] = []
    for word in text.split():
        padded = f" {word} "
        for size in range(shortest, longest + 1):
            if len(padded) <= size:
                found.append(padded)
                break
            found += [padded[at : at + size] for at in range(len(padded) - size + 1)]
    return found


def _without_marks(text: str) -> str:
    """The text without combining marks; a plain one stays as it is."""
    if text.isascii():
        return text
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )


def _only_ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def _as_it_is(text: str) -> str:
    return text


_STRIPPERS: dict[str, Callable[[str], str]] = {
    "": _as_it_is,
    "unicode": _without_marks,
    "ascii": _only_ascii,
}
