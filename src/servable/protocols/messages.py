"""Protocol Buffers messages from tables of fields: no compiler, no generated code.

A table has one line for each message, which may go on in lines that begin with a bar: its name, and after
bars its fields as name, number and type. ``*`` before a type repeats it, ``map:`` makes it the value of a map
with texts for keys, ``?name`` behind it puts the field into that choice. A type in capitals is a message of
the table, or of a file that it uses when it is written whole, with a dot before it; an enumeration begins
with ``enum``. A dot in a name nests.

The messages live in a pool of their own: a program that also uses a generated module of the same protocol
would otherwise find its names taken.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_Field = descriptor_pb2.FieldDescriptorProto
_PLAIN = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}

#: Where a line of a table goes on.
_JOINED = re.compile(r"\n\s+\|")


class Method:
    """One method of a service.

    Args:
        name: of the method.
        asked: message of a request.
        answered: message of an answer.
        asks: whether the client sends a stream.
        answers: whether the server sends one.
    """

    def __init__(
        self, name: str, asked: str, answered: str, *, asks: bool = False, answers: bool = False
    ) -> None:
        self.name = name
        self.asked = asked
        self.answered = answered
        self.asks = asks
        self.answers = answers


def file_of(
    name: str,
    package: str,
    table: str,
    service: str = "",
    methods: Iterable[Method] = (),
    uses: Iterable[descriptor_pb2.FileDescriptorProto] = (),
) -> descriptor_pb2.FileDescriptorProto:
    """The description of a package of messages and its one service.

    Args:
        name: of the file that it would be.
        package: of the messages.
        table: as the module says.
        service: its name; empty where there is none.
        methods: of the service.
        uses: files whose messages and outer enumerations it names.
    """
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    messages: dict[str, Any] = {}
    enums: set[str] = set()
    for used in uses:
        file.dependency.append(used.name)
        enums.update(f".{used.package}.{enum.name}" for enum in used.enum_type)
    lines = [
        [part.strip() for part in line.split("|")] for line in _JOINED.sub(" |", table).strip().splitlines()
    ]
    for head, *fields in lines:
        if head.startswith("enum "):
            path = head.removeprefix("enum ")
            enums.add(path)
            outer, _, own = path.rpartition(".")
            enum = (messages[outer] if outer else file).enum_type.add(name=own)
            for field in fields:
                word, number = field.split()
                enum.value.add(name=word, number=int(number))
        else:
            outer, _, own = head.rpartition(".")
            messages[head] = (
                messages[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
            )
    for head, *fields in lines:
        if head in messages:
            for field in fields:
                _add(messages[head], field.split(), f".{package}.", head, enums)
    if not service:
        return file
    described = file.service.add(name=service)
    for method in methods:
        described.method.add(
            name=method.name,
            input_type=f".{package}.{method.asked}",
            output_type=f".{package}.{method.answered}",
            client_streaming=method.asks,
            server_streaming=method.answers,
        )
    return file


def _add(message: Any, words: Sequence[str], prefix: str, path: str, enums: set[str]) -> None:
    name, number, kind = words[:3]
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if len(words) > 3:
        choice = words[3].removeprefix("?")
        known = [each.name for each in message.oneof_decl]
        if choice not in known:
            message.oneof_decl.add(name=choice)
            known.append(choice)
        field.oneof_index = known.index(choice)
    if kind.startswith("map:"):
        entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add(entry, ("key", "1", "string"), prefix, "", enums)
        _add(entry, ("value", "2", kind.removeprefix("map:")), prefix, "", enums)
        field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
        field.type_name = f"{prefix}{path}.{entry_name}"
        return
    if kind.startswith("*"):
        field.label, kind = _Field.LABEL_REPEATED, kind[1:]
    if kind in _PLAIN:
        field.type = _PLAIN[kind]
    else:
        field.type = _Field.TYPE_ENUM if kind in enums else _Field.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else prefix + kind


class Messages:
    """The classes of the messages of some files. Immutable and safe to share.

    Args:
        files: in the order in which they use one another.

    Attributes:
        pool: holds the descriptions.
    """

    def __init__(self, *files: descriptor_pb2.FileDescriptorProto) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        for file in files:
            self.pool.Add(file)
        self._classes: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The class of a message by its full name.

        Raises:
            KeyError: there is none of this name.
        """
        known = self._classes.get(name)
        if known is None:
            descriptor = self.pool.FindMessageTypeByName(name)
            known = self._classes[name] = message_factory.GetMessageClass(descriptor)
        return known
