"""A typed TypeScript client of one model, as text: needs ``fetch`` and nothing else. Pure."""

import json
import re
from typing import Any

from servable.artifact.signature import Field
from servable.protocols.answers import label_key
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
from servable.protocols.client_typescript_runtime import CARRIED, OUTDATED, RUNTIME
from servable.protocols.client_typescript_stream import BEFORE_STREAM, EVENTS, STREAM
from servable.protocols.files import takes_files

_TAKEN = ("Row", "Answer", "Detail", "Error", "Client", "Label", "Output", "Moment", "Options", "Call")
_WIDE = 70
#: The greatest whole number that every JavaScript engine reads exactly.
_SAFE = 2**53 - 1


def typescript_client(subject: Subject) -> str:
    """The source of a module with the client of a model.

    Args:
        subject: the model, its version and its signature.

    Returns:
        TypeScript that ``tsc --strict`` compiles for ES2020 and newer.
    """
    writer = _Writer(subject)
    parts = [
        writer.head(),
        writer.constants(),
        *writer.types(),
        *writer.reading(),
        _runtime(writer, subject),
    ]
    return "\n\n".join(parts) + "\n"


def _runtime(writer: "_Writer", subject: Subject) -> str:
    """What is the same for every model, and what those need besides that take files or answer in pieces."""
    same, more = RUNTIME, [OUTDATED] if writer.listed else []
    if subject.streams:
        same = same.replace(BEFORE_STREAM, STREAM + BEFORE_STREAM)
        more.append(EVENTS)
    if takes_files(subject.signature):
        same = same.replace("JSON.stringify(content)", "JSON.stringify(content, carried)")
        more.insert(0, CARRIED)
    return writer.runtime(same, more, "\n\n")


class _Writer(Writer):
    """Writes the parts of one module."""

    whole = "number"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject, _TAKEN, _is_literal, _is_literal)
        self._prediction = self.prediction_type()

    def label_type(self) -> str:
        """See ``Writer``."""
        return f"{self.prefix}Label" if self.listed else _common_type(self.signature.classes)

    def number_type(self, depth: int) -> str:
        """See ``Writer``."""
        return _nested("", "number | null", depth)

    def output_type(self, field: Field) -> str:
        """See ``Writer``."""
        return _output_type(field)

    def head(self) -> str:
        """The comment at the top, with an example."""
        row = example(self.signature)
        shown = "..." if row is None else _literal(row, 0)
        text = (
            f"A typed client of the model {self.subject.model}.\n\n"
            f"Made by `servable client` for {self.subject.made_for}\n"
            "It needs `fetch` and nothing else. Make it anew when the model changes its inputs or answers;\n"
            "do not edit it.\n\n"
            "@example\n"
            f'const client = new {self.prefix}Client("http://127.0.0.1:8000");\n'
            f"const answer = await client.predict({shown});\n"
            "console.log(answer.prediction);\n\n"
            "@packageDocumentation"
        )
        return _comment(text)

    def constants(self) -> str:
        """What the client is made for."""
        return (
            f"export const MODEL = {_quoted(self.subject.model)};\n"
            f"export const VERSION = {self.subject.version};\n"
            f"export const PACKAGE = {_quoted(self.subject.package)};"
        )

    def types(self) -> list[str]:
        """The choices, the row and the answer."""
        found = [self._choice(choice) for choice in self.choices.values()]
        if self.dated:
            note = "A date: ISO 8601 as text, or seconds since 1970; without a zone it is UTC."
            found.append(f"{_comment(note)}\nexport type {self.prefix}Moment = Date | string | number;")
        return [*found, self._row(), *self._answer_types()]

    def reading(self) -> list[str]:
        """The functions that read the parts of an answer."""
        return [self._prediction_reader(), *self._probabilities_reader(), self._answer_reader()]

    # ------------------------------------------------------------------ inputs

    def _choice(self, choice: Choice) -> str:
        known = list(map(_literal_value, choice.field.values))
        if choice.open:
            # An intersection keeps the known values apart, so that editors go on offering them.
            known.append(f"({_column_type(choice.field)} & {{}})")
        comment = _comment(choice_words(choice))
        return f"{comment}\nexport type {choice.type_name} ={_union(known)};"

    def _row(self) -> str:
        lines = []
        for field in self.signature.inputs:
            mark = "?" if field.missing and not field.is_tensor else ""
            told = words(field)
            lines.append(_comment(f"{told[0].upper()}{told[1:]}.", 2))
            lines.append(f"  {_key(field.name)}{mark}: {self._input_type(field)};")
        body = "".join(f"{line}\n" for line in lines)
        return f"/** One row for the model. */\nexport interface {self.prefix}Row {{\n{body}}}"

    def _input_type(self, field: Field) -> str:
        if field.is_tensor:
            tensor = _nested("readonly ", _cell_type(field.dtype), len(field.shape))
            return f"Uint8Array | string | {tensor}" if field.takes_files else tensor
        choice = self.choices.get(field.name)
        kind = choice.type_name if choice else _column_type(field)
        if field.dtype == "datetime":
            kind = f"{self.prefix}Moment"
        return f"{kind} | null" if field.missing else kind

    # ------------------------------------------------------------------ answers

    def _answer_types(self) -> list[str]:
        signature, found = self.signature, []
        if self._prediction == f"{self.prefix}Label":
            labels = _union(list(map(_literal_value, signature.classes)))
            note = _comment(f"The labels of {one_line(signature.answer.name)}.")
            found.append(f"{note}\nexport type {self.prefix}Label ={labels};")
        if self._prediction == f"{self.prefix}Output":
            body = "".join(f"  {_key(out.name)}: {_output_type(out)};\n" for out in signature.outputs)
            note = "/** The outputs of the model by name. */"
            found.append(f"{note}\nexport interface {self.prefix}Output {{\n{body}}}")
        chances = (
            f"  /** Of every label. */\n  readonly probabilities: {self._probabilities_type()};\n"
            if signature.probabilities
            else ""
        )
        found.append(
            f"/** The answer to one row. */\nexport interface {self.prefix}Answer {{\n"
            f"{_comment(one_line(signature.answer.name), 2)}\n"
            f"  readonly prediction: {self._prediction};\n{chances}"
            "  /** That answered. */\n  readonly model: string;\n"
            "  /** Of the model that answered. */\n  readonly version: number;\n"
            "  /** Under which the server logged the request. */\n  readonly requestId: string;\n}"
        )
        return found

    def _probabilities_type(self) -> str:
        if not self.listed:
            return "Readonly<Record<string, number | null>>"
        if all(isinstance(label, str) or type(label) is int for label in self.signature.classes):
            return f"Readonly<Record<{self.prefix}Label, number | null>>"
        keys = _union([_quoted(label_key(label)) for label in self.signature.classes])
        return f"Readonly<Record<{keys.strip()}, number | null>>"

    def _prediction_reader(self) -> str:
        kind = self._prediction
        head = f"function readPrediction(value: unknown): {kind} {{\n"
        if not self.listed:
            return f"{head}  return value as {kind};\n}}"
        labels = "".join(f"  {_literal_value(label)},\n" for label in self.signature.classes)
        return (
            f"const LABELS: ReadonlySet<unknown> = new Set<unknown>([\n{labels}]);\n\n{head}"
            f"  if (!LABELS.has(value)) throw outdated(String(value));\n  return value as {kind};\n}}"
        )

    def _probabilities_reader(self) -> list[str]:
        if not self.signature.probabilities:
            return []
        kind = self._probabilities_type()
        head = f"function readProbabilities(value: unknown): {kind} {{\n"
        if not self.listed:
            return [f"{head}  return value as {kind};\n}}"]
        keys = "".join(f"  {_quoted(label_key(label))},\n" for label in self.signature.classes)
        return [
            f"const KEYS: ReadonlySet<string> = new Set<string>([\n{keys}]);",
            f"{head}"
            "  if (!isRecord(value)) throw noAnswer(200);\n"
            "  const keys = Object.keys(value);\n"
            "  const same = keys.length === KEYS.size && keys.every((key) => KEYS.has(key));\n"
            '  if (!same) throw outdated(keys.join(", "));\n'
            f"  return value as {kind};\n}}",
        ]

    def _answer_reader(self) -> str:
        extra = (
            "    probabilities: readProbabilities(probabilities),\n" if self.signature.probabilities else ""
        )
        unused = "" if self.signature.probabilities else "_"
        return (
            "function readAnswer(\n"
            "  prediction: unknown,\n"
            f"  {unused}probabilities: unknown,\n"
            "  content: Readonly<Record<string, unknown>>,\n"
            f"): {self.prefix}Answer {{\n"
            "  return {\n"
            "    prediction: readPrediction(prediction),\n"
            f"{extra}"
            '    model: String(content["model"]),\n'
            '    version: Number(content["version"]),\n'
            '    requestId: String(content["request_id"]),\n'
            "  };\n}"
        )


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) <= _SAFE)


def _literal_value(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _column_type(field: Field) -> str:
    return {"str": "string", "bool": "boolean"}.get(field.dtype, "number")


def _cell_type(dtype: str) -> str:
    return {"str": "string", "bool": "boolean"}.get(dtype, "number")


def _nested(mark: str, cell: str, depth: int) -> str:
    """Arrays in arrays; ``mark`` comes before each of them."""
    for _ in range(depth):
        inner = cell if re.fullmatch(r"\w+", cell) else f"({cell})"
        cell = f"{mark}{inner}[]"
    return cell


def _output_type(field: Field) -> str:
    cell = _cell_type(field.dtype)
    return _nested("", "number | null" if field.dtype.startswith("float") else cell, len(field.shape))


def _common_type(values: tuple[Any, ...]) -> str:
    kinds = {"string" if isinstance(value, str) else "number" for value in values}
    return " | ".join(sorted(kinds)) or "unknown"


def _union(members: list[str]) -> str:
    line = " " + " | ".join(members)
    return line if len(line) <= _WIDE else "".join(f"\n  | {member}" for member in members)


def _quoted(text: str) -> str:
    return quoted(text, lambda character: json.dumps(character)[1:-1])


def _key(name: str) -> str:
    """A property's name; the one that would set the prototype is computed."""
    if name == "__proto__":
        return '["__proto__"]'
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name, re.ASCII) else _quoted(name)


def _comment(text: str, indent: int = 0) -> str:
    """A comment for TSDoc."""
    safe = text.replace("*/", "*\\/")
    margin = " " * indent
    lines = safe.split("\n")
    if len(lines) == 1:
        return f"{margin}/** {safe} */"
    return "\n".join([f"{margin}/**", *(f"{margin} * {line}".rstrip() for line in lines), f"{margin} */"])


def _literal(value: Any, indent: int) -> str:
    """JSON's values as TypeScript; a long object has a key on each line."""
    if isinstance(value, dict):
        parts = [f"{_key(key)}: {_literal(each, indent + 2)}" for key, each in value.items()]
        line = "{ " + ", ".join(parts) + " }"
        if len(line) + indent <= _WIDE:
            return line
        margin = " " * (indent + 2)
        return "{\n" + "".join(f"{margin}{part},\n" for part in parts) + " " * indent + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(each, indent) for each in value) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)
