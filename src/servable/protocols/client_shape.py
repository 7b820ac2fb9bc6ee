"""What the generated clients of all languages have in common: names, choices, words, examples. Pure."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from servable.artifact.signature import Field, Signature
from servable.protocols.native_schema import example_row, expectation

#: A category with more known values than this is typed as what its values are, not as a list of them.
MOST_VALUES = 500
#: Characters of an example beyond which it explains nothing any more.
_LONGEST_EXAMPLE = 2_000
_LONGEST_WORDS = 400


class Subject(NamedTuple):
    """What a client is made for.

    Attributes:
        model: its name.
        version: whose signature it is.
        package: the digest of that version's package; empty when nobody said it.
        signature: what the model takes and gives.
        streams: whether it answers in pieces, for which the client then has a method.
    """

    model: str
    version: int
    package: str
    signature: Signature
    streams: bool = False

    @property
    def made_for(self) -> str:
        """The version and its package in words, the digest on a line of its own."""
        digest = f",\npackage {self.package}" if self.package else ""
        return f"{self.model}, version {self.version}{digest}."


class Choice(NamedTuple):
    """Known values that get a type of their own.

    Attributes:
        type_name: of the type.
        field: the input or output whose values they are.
        open: whether the model takes other values, too.
    """

    type_name: str
    field: Field
    open: bool


class Names:
    """Gives each type a name that no other has.

    Args:
        model: begins every name, so that clients of several models can be used side by side.
        taken: what may not be given, without the beginning.
    """

    def __init__(self, model: str, taken: Iterable[str]) -> None:
        self.prefix = camel(model)
        if not self.prefix or self.prefix[0].isdigit():
            self.prefix = f"Model{self.prefix}"
        self._taken = {self.prefix + name for name in taken}

    def of(self, text: str, otherwise: str) -> str:
        """A name made from the letters of a text; from another word if it has none that languages take."""
        wanted = self.prefix + (camel(text) or otherwise)
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


class Writer:
    """What the writers of all languages know of their subject, and decide alike.

    Args:
        subject: what the client is made for.
        taken: names that no choice may have, without the model's.
        literal: whether the language can make a type of a value.
        label: the same of the values of a table of labels.

    Attributes:
        subject: as given.
        signature: of the subject.
        prefix: begins the name of every type.
        choices: the inputs whose known values get a type, by name.
        listed: whether the labels of a classifier are written down one by one.
    """

    #: The type of the number of a cluster.
    whole = ""

    def __init__(
        self,
        subject: Subject,
        taken: Iterable[str],
        literal: Callable[[Any], bool],
        label: Callable[[Any], bool],
    ) -> None:
        self.subject = subject
        self.signature = subject.signature
        names = Names(subject.model, taken)
        self.prefix = names.prefix
        self.choices = choices(self.signature, names, literal)
        self.listed = listable(self.signature.classes, label)

    @property
    def dated(self) -> bool:
        """Whether an input is a date."""
        return any(field.dtype == "datetime" for field in self.signature.inputs)

    def runtime(self, same: str, more: Sequence[str], between: str) -> str:
        """What is the same for every model, and ``more`` for those like this one."""
        parts = [same, *more]
        return between.join(part.replace("§", self.prefix).strip("\n") for part in parts)

    def prediction_type(self) -> str:
        """The type of an answer to one row."""
        signature = self.signature
        if signature.task == "classification":
            return self.label_type()
        if signature.task == "clustering":
            return self.whole
        if signature.task == "regression":
            return self.number_type(1 if len(signature.outputs) > 1 else len(signature.answer.shape))
        return self.output_type(signature.answer) if len(signature.outputs) == 1 else f"{self.prefix}Output"

    def label_type(self) -> str:
        """The type of a label."""
        raise NotImplementedError

    def number_type(self, depth: int) -> str:
        """The type of numbers that may be missing, in so many lists within each other."""
        raise NotImplementedError

    def output_type(self, field: Field) -> str:
        """The type of one output."""
        raise NotImplementedError


def choice_words(choice: Choice) -> str:
    """What the type of a choice is, as a sentence."""
    note = "Known values of {}; others are taken, too." if choice.open else "The values that {} takes."
    return note.format(one_line(choice.field.name))


def camel(text: str) -> str:
    """The letters and digits of ASCII in a text, each word with a capital."""
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))


def choices(signature: Signature, names: Names, literal: Callable[[Any], bool]) -> dict[str, Choice]:
    """The inputs whose known values get a type, by the name of the input.

    Args:
        signature: of the model.
        names: gives the names.
        literal: whether the language can make a type of a value.
    """
    found = {}
    for number, field in enumerate(signature.inputs, 1):
        if field.kind == "category" and listable(field.values, literal):
            name = names.of(field.name, f"Column{number}")
            found[field.name] = Choice(name, field, field.unknown != "refuse")
    return found


def listable(values: tuple[Any, ...], literal: Callable[[Any], bool]) -> bool:
    """Whether these values are a type: some, not too many, and each a literal of the language."""
    return 0 < len(values) <= MOST_VALUES and all(map(literal, values))


def one_line(text: str) -> str:
    """A text for a comment: printable, on one line, and not too long."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= _LONGEST_WORDS else plain[: _LONGEST_WORDS - 3] + "..."


def words(field: Field) -> str:
    """What an input takes, as part of a sentence: form, range, example, description."""
    parts = [expectation(field)]
    if field.minimum is not None and field.maximum is not None:
        parts.append(f"seen in training: {field.minimum:g} to {field.maximum:g}")
    if field.example is not None and not field.is_tensor:
        parts.append(f"for example {field.example}")
    if field.description:
        parts.append(field.description.rstrip("."))
    return one_line("; ".join(parts))


def example(signature: Signature) -> dict[str, Any] | None:
    """A row that the model takes, what may be left out left out; None when it is too long to read."""
    row = {
        name: value
        for name, value in example_row(signature).items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
    return row if len(repr(row)) <= _LONGEST_EXAMPLE else None


def quoted(text: str, escape: Callable[[str], str]) -> str:
    """A text between double quotes; each character that is not printable goes through ``escape``."""
    return '"' + "".join(_character(each, escape) for each in text) + '"'


def _character(character: str, escape: Callable[[str], str]) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else escape(character)
