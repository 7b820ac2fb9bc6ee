"""A typed Python client of one model, as text: needs nothing but the standard library. Pure."""

import keyword
import re
import unicodedata
from typing import Any

from servable.artifact.signature import Field
from servable.protocols.answers import label_key
from servable.protocols.client_python_runtime import OUTDATED, RUNTIME
from servable.protocols.client_python_stream import BEFORE_STREAM, EVENTS, STREAM
from servable.protocols.client_shape import (
    Choice,
    Subject,
    Writer,
    choice_words,
    example,
    one_line,
    quoted,
    words,
)

_TAKEN = ("Row", "Answer", "Detail", "Error", "Client", "Label", "Output", "Moment")
_WIDE = 100
#: Words that a class body may not name a field after, because its own annotations use them.
_ANNOTATIONS = frozenset({"float", "int", "str", "bytes", "bool", "Sequence", "NotRequired", "None"})
_IMPORTS = (
    ("import base64", "base64"),
    ("import http.client", "http"),
    ("import json", "json"),
    ("import time", "time"),
    ("from collections.abc import {}", "Generator Iterable Iterator Mapping Sequence"),
    ("from dataclasses import {}", "dataclass"),
    ("from datetime import {}", "date datetime"),
    ("from types import {}", "TracebackType"),
    ("from typing import {}", "Any Final Literal NamedTuple NotRequired Self TypedDict"),
    ("from urllib.parse import {}", "quote urlsplit"),
)


def python_client(subject: Subject) -> str:
    """The source of a module with the client of a model.

    Args:
        subject: the model, its version and its signature.

    Returns:
        Python for 3.11 and newer that ``mypy --strict`` accepts.
    """
    writer = _Writer(subject)
    runtime = _runtime(writer)
    body = "\n\n\n".join(
        [
            writer.constants(),
            *writer.types(),
            writer.reading(),
            runtime,
        ]
    )
    return f"{writer.head()}\n\n{_imports(body)}\n\n{body}\n"


def _runtime(writer: "_Writer") -> str:
    """What is the same for every model, and what those need besides that answer in pieces."""
    same, more = RUNTIME, [OUTDATED] if writer.listed else []
    if writer.subject.streams:
        same = same.replace(BEFORE_STREAM, STREAM + BEFORE_STREAM)
        more.append(EVENTS)
    return writer.runtime(same, more, "\n\n\n")


class _Writer(Writer):
    """Writes the parts of one module."""

    whole = "int"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject, _TAKEN, _is_literal, lambda value: isinstance(value, str | int | float))
        self._prediction = self.prediction_type()

    def label_type(self) -> str:
        """See ``Writer``."""
        classes = self.signature.classes
        listed = self.listed and all(map(_is_literal, classes))
        return f"{self.prefix}Label" if listed else _common_type(classes)

    def number_type(self, depth: int) -> str:
        """See ``Writer``."""
        return _nested("list", "float | None", depth)

    def output_type(self, field: Field) -> str:
        """See ``Writer``."""
        return _output_type(field)

    def head(self) -> str:
        """The docstring of the module, with an example."""
        prefix = self.prefix
        row = example(self.signature)
        shown = "..." if row is None else _literal(row, 4)
        text = (
            f"A typed client of the model {self.subject.model}.\n\n"
            f"Made by `servable client` for {self.subject.made_for}\n"
            "It needs Python 3.11 or newer and nothing else. Make it anew when the model changes its inputs\n"
            "or answers; do not edit it.\n\n"
            "Example::\n\n"
            f'    client = {prefix}Client("http://127.0.0.1:8000")\n'
            f"    answer = client.predict({shown})\n"
            "    print(answer.prediction)"
        )
        return _docstring(text)

    def constants(self) -> str:
        """What the client is made for."""
        return (
            f"MODEL: Final = {_quoted(self.subject.model)}\n"
            f"VERSION: Final = {self.subject.version}\n"
            f"PACKAGE: Final = {_quoted(self.subject.package)}"
        )

    def types(self) -> list[str]:
        """The choices, the row and the answer."""
        found = [self._choice(choice) for choice in self.choices.values()]
        if self.dated:
            moment = f"{self.prefix}Moment = datetime | date | str | float\n"
            found.append(
                moment + '"""A date: ISO 8601 as text, or seconds since 1970; without a zone it is UTC."""'
            )
        found.append(self._row())
        found += self._answer_types()
        return found

    def reading(self) -> str:
        """The functions that read the parts of an answer."""
        return "\n\n\n".join(
            [self._prediction_reader(), *self._probabilities_reader(), self._answer_reader()]
        )

    # ------------------------------------------------------------------ inputs

    def _choice(self, choice: Choice) -> str:
        known = ", ".join(_literal_value(value) for value in choice.field.values)
        own = _column_type(choice.field)
        also = f" | {own}" if choice.open else ""
        line = f"{choice.type_name} = Literal[{known}]{also}"
        if len(line) > _WIDE:
            each = "".join(f"    {_literal_value(value)},\n" for value in choice.field.values)
            line = f"{choice.type_name} = Literal[\n{each}]{also}"
        return f"{line}\n" + _docstring(choice_words(choice))

    def _row(self) -> str:
        name = f"{self.prefix}Row"
        fields = {field.name: self._input_type(field) for field in self.signature.inputs}
        lines = [f"    {one_line(field.name)}: {words(field)}." for field in self.signature.inputs]
        doc = (
            "\n".join(["One row for the model.", "", "Fields:", *lines])
            if lines
            else "One row for the model."
        )
        if all(map(self._is_attribute, fields)):
            body = "\n".join(f"    {field}: {kind}" for field, kind in fields.items())
            return f"class {name}(TypedDict):\n{_docstring(doc, 4)}\n\n{body}".rstrip()
        body = "".join(f"        {_quoted(field)}: {kind},\n" for field, kind in fields.items())
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{body}    }},\n)\n{_docstring(doc)}'

    def _is_attribute(self, name: str) -> bool:
        """Whether a class body can hold a field of this name and means this very name by it."""
        used = _ANNOTATIONS | {choice.type_name for choice in self.choices.values()}
        return (
            name.isidentifier()
            and not keyword.iskeyword(name)
            and not name.startswith("__")
            and unicodedata.normalize("NFKC", name) == name
            and name not in used | {f"{self.prefix}Moment"}
        )

    def _input_type(self, field: Field) -> str:
        if field.is_tensor:
            tensor = _nested("Sequence", _cell_type(field.dtype), len(field.shape))
            return f"bytes | str | {tensor}" if field.takes_files else tensor
        choice = self.choices.get(field.name)
        kind = choice.type_name if choice else _column_type(field)
        if field.dtype == "datetime":
            kind = f"{self.prefix}Moment"
        return f"NotRequired[{kind} | None]" if field.missing else kind

    # ------------------------------------------------------------------ answers

    def _answer_types(self) -> list[str]:
        signature, found = self.signature, []
        if self._prediction == f"{self.prefix}Label":
            known = "".join(f"    {_literal_value(label)},\n" for label in signature.classes)
            note = _docstring(f"The labels of {one_line(signature.answer.name)}.")
            found.append(f"{self.prefix}Label = Literal[\n{known}]\n{note}")
        if self._prediction == f"{self.prefix}Output":
            body = "".join(
                f"        {_quoted(out.name)}: {_output_type(out)},\n" for out in signature.outputs
            )
            name = f"{self.prefix}Output"
            note = '"""The outputs of the model by name."""'
            found.append(f'{name} = TypedDict(\n    "{name}",\n    {{\n{body}    }},\n)\n{note}')
        doc = [
            "The answer to one row.",
            "",
            "Attributes:",
            f"    prediction: {one_line(signature.answer.name)}.",
            *(["    probabilities: of every label."] if signature.probabilities else []),
            "    model: that answered.",
            "    version: of the model that answered.",
            "    request_id: under which the server logged the request.",
        ]
        fields = [f"prediction: {self._prediction}"]
        if signature.probabilities:
            fields.append(f"probabilities: Mapping[{self._key_type()}, float | None]")
        fields += ["model: str", "version: int", "request_id: str"]
        body = "\n".join(f"    {line}" for line in fields)
        head = f"@dataclass(frozen=True, slots=True)\nclass {self.prefix}Answer:"
        found.append(f"{head}\n{_docstring(chr(10).join(doc), 4)}\n\n{body}")
        return found

    def _key_type(self) -> str:
        # Beyond the listed labels nobody knows what the text of a key stands for.
        return self._prediction if self.listed else "str"

    def _prediction_reader(self) -> str:
        kind = self._prediction
        if self.signature.task == "classification" and self.listed:
            pairs = "".join(
                f"    {_quoted(label_key(label))}: {_literal_value(label)},\n"
                for label in self.signature.classes
            )
            return (
                f"_LABELS: Final[Mapping[str, {kind}]] = {{\n{pairs}}}\n\n\n"
                f"def _prediction(value: Any) -> {kind}:\n"
                "    key = value if isinstance(value, str) else json.dumps(value)\n"
                "    if key not in _LABELS:\n"
                "        raise _outdated(key)\n"
                "    return _LABELS[key]"
            )
        return f"def _prediction(value: Any) -> {kind}:\n    found: {kind} = value\n    return found"

    def _probabilities_reader(self) -> list[str]:
        if not self.signature.probabilities:
            return []
        head = f"def _probabilities(value: Any) -> dict[{self._key_type()}, float | None]:\n"
        if not self.listed:
            return [f"{head}    return dict(value)"]
        return [
            f"{head}"
            "    if value.keys() != _LABELS.keys():\n"
            '        raise _outdated(", ".join(value.keys() ^ _LABELS.keys()))\n'
            "    return {_LABELS[key]: chance for key, chance in value.items()}"
        ]

    def _answer_reader(self) -> str:
        chances = self.signature.probabilities
        extra = "        probabilities=_probabilities(chances),\n" if chances else ""
        return (
            f"def _answer(prediction: Any, chances: Any, content: dict[str, Any]) -> {self.prefix}Answer:\n"
            f"    return {self.prefix}Answer(\n"
            "        prediction=_prediction(prediction),\n"
            f"{extra}"
            '        model=content["model"],\n'
            '        version=content["version"],\n'
            '        request_id=content["request_id"],\n'
            "    )"
        )


def _imports(body: str) -> str:
    """The imports that the body needs."""
    lines = []
    for line, names in _IMPORTS:
        used = [name for name in names.split() if re.search(rf"\b{name}\b", body)]
        if used:
            lines.append(line.format(", ".join(used)))
    return "\n".join(lines)


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int)


def _literal_value(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _column_type(field: Field) -> str:
    plain = {"str": "str", "bool": "bool"}.get(field.dtype, "float")
    return "int" if field.kind == "category" and field.dtype == "int64" else plain


def _cell_type(dtype: str) -> str:
    if dtype in ("str", "bool"):
        return dtype
    return "int" if dtype.startswith(("int", "uint")) else "float"


def _nested(container: str, cell: str, depth: int) -> str:
    for _ in range(depth):
        cell = f"{container}[{cell}]"
    return cell


def _output_type(field: Field) -> str:
    cell = _cell_type(field.dtype)
    return _nested("list", "float | None" if cell == "float" else cell, len(field.shape))


def _common_type(values: tuple[Any, ...]) -> str:
    kinds = {type(value) for value in values}
    return kinds.pop().__name__ if len(kinds) == 1 else "str | float"


def _quoted(text: str) -> str:
    return quoted(text, _escape)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _docstring(text: str, indent: int = 0) -> str:
    """A docstring; several lines end with the quotes on a line of their own."""
    safe = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if safe.endswith('"'):
        safe += " "
    margin = " " * indent
    lines = [f"{margin}{line}".rstrip() for line in f'"""{safe}'.split("\n")]
    return "\n".join(lines) + (f'\n{margin}"""' if len(lines) > 1 else '"""')


def _literal(value: Any, indent: int) -> str:
    """JSON's values as Python; a long object has a key on each line."""
    if isinstance(value, dict):
        parts = [f"{_quoted(key)}: {_literal(each, indent + 4)}" for key, each in value.items()]
        line = "{" + ", ".join(parts) + "}"
        if len(line) + indent <= _WIDE - 30:
            return line
        margin = " " * (indent + 4)
        return "{\n" + "".join(f"{margin}{part},\n" for part in parts) + " " * indent + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(each, indent) for each in value) + "]"
    return _literal_value(value)
