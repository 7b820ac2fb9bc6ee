"""Reads pickles the way the unpickler does, without making anything: what would be imported and called.

The machine keeps the unpickler's stack with inert stand-ins on it. It imports nothing, calls nothing and
compares nothing, so a hostile file can do no more than be long, and length is bounded. Joblib puts the
bytes of arrays between the opcodes, right after the object that describes them; that object is
understood well enough to pass over them.
"""

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any

from servable.artifact.standins import OPAQUE, Findings, Global, Made, Pairs, class_of, described, itemsize_of
from servable.artifact.streams import BrokenStream, EnoughSeen, Stream

#: So many opcodes are looked at; a forest of a thousand trees has some ten thousand.
MOST_OPCODES = 5_000_000
#: A longer text or byte string is passed over; no name is that long.
LARGEST_CONSTANT = 1 << 20
#: When this many bytes of constants are held, further byte strings are passed over.
MOST_HELD = 64 << 20
#: An array of more bytes than this is a lie.
LARGEST_ARRAY = 1 << 50
#: Pickles in pickles are followed this deep.
DEEPEST = 8

_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_OLD_ARRAYS = frozenset({"joblib.numpy_pickle.NDArrayWrapper", "joblib.numpy_pickle.ZNDArrayWrapper"})
_GETATTR = frozenset({"builtins.getattr", "__builtin__.getattr"})
_IMPORT = frozenset({"importlib.import_module", "builtins.__import__", "__builtin__.__import__"})
_LOADS = frozenset(
    {
        "pickle.loads",
        "_pickle.loads",
        "pickle._loads",
        "cloudpickle.loads",
        "cloudpickle.cloudpickle.loads",
        "dill.loads",
    }
)


_OPCODES = {ord(info.code): info for info in pickletools.opcodes}
_SIZES = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4}
_SIZES |= {pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8}
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "LONG4"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_OLD_TEXTS = frozenset({"BINSTRING", "SHORT_BINSTRING"})


class Machine:
    """One pickle being read. ``follow`` says whether joblib's arrays are expected in it."""

    def __init__(self, stream: Stream, findings: Findings, *, depth: int = 0, follow: bool = True) -> None:
        self._stream = stream
        self._found = findings
        self._depth = depth
        self._follow = follow
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> None:
        """Read up to the end mark.

        Raises:
            BrokenStream: this is no pickle, or it is cut off.
            EnoughSeen: a limit was reached.
        """
        try:
            while True:
                self._found.opcodes += 1
                if self._found.opcodes > MOST_OPCODES:
                    raise EnoughSeen
                info = _OPCODES.get(self._stream.take(1)[0])
                if info is None:
                    raise BrokenStream(f"byte {self._stream.position - 1} is no pickle opcode")
                argument = self._argument(info)
                if info.name == "STOP":
                    self._stack.pop()
                    return
                handler = _HANDLERS.get(info.name)
                if handler is None:
                    self._usual(info, argument)
                else:
                    handler(self, argument)
        except (IndexError, KeyError) as error:
            raise BrokenStream(f"byte {self._stream.position - 1} makes no sense there") from error

    def _argument(self, info: pickletools.OpcodeInfo) -> Any:
        if info.arg is None:
            return None
        size = info.arg.n
        if size == pickletools.UP_TO_NEWLINE:
            if info.arg.name == "stringnl_noescape_pair":
                return self._stream.line(), self._stream.line()
            return self._stream.line()
        if size in _SIZES:
            length = int.from_bytes(self._stream.take(_SIZES[size]), "little")
            if length > LARGEST_CONSTANT or (self._found.held > MOST_HELD and "BYTES" in info.name):
                self._stream.skip(length)
                return OPAQUE
            self._found.held += length
            if self._found.held > 4 * MOST_HELD:
                raise EnoughSeen
            return self._stream.take(length)
        return self._stream.take(size)

    def _usual(self, info: pickletools.OpcodeInfo, argument: Any) -> None:
        """Opcodes of which only the effect on the stack matters, constants among them."""
        marked, pops, pushes = _EFFECTS[info.name]
        if marked:
            self._pop_mark()
        for _ in range(pops):
            self._stack.pop()
        for _ in range(pushes):
            self._stack.append(_constant(info.name, argument))

    def _pop_mark(self) -> list[Any]:
        above = self._stack
        self._stack = self._below.pop()
        return above

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _pop_to_mark(self, _: Any) -> None:
        self._pop_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _proto(self, argument: bytes) -> None:
        if argument[0] > 5:
            raise BrokenStream(f"pickle protocol {argument[0]} does not exist")

    def _put(self, argument: bytes) -> None:
        self._memo[_index(argument)] = self._stack[-1]

    def _put_line(self, argument: bytes) -> None:
        self._memo[_line_index(argument)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, argument: bytes) -> None:
        self._stack.append(self._memo[_index(argument)])

    def _get_line(self, argument: bytes) -> None:
        self._stack.append(self._memo[_line_index(argument)])

    def _tuple(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _tuple_of(self, size: int) -> None:
        items = [self._stack.pop() for _ in range(size)]
        self._stack.append(tuple(reversed(items)))

    def _empty_dict(self, _: Any) -> None:
        self._stack.append(Pairs())

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(Pairs(zip(items[::2], items[1::2], strict=False)))

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        if isinstance(self._stack[-1], Pairs):
            self._stack[-1].add([(key, value)])

    def _setitems(self, _: Any) -> None:
        items = self._pop_mark()
        if isinstance(self._stack[-1], Pairs):
            self._stack[-1].add(zip(items[::2], items[1::2], strict=False))

    def _global(self, argument: tuple[bytes, bytes]) -> None:
        module, name = (part.decode("utf-8", "replace") for part in argument)
        self._stack.append(self._found.add(f"{module}.{name}"))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if isinstance(module, str) and isinstance(name, str):
            self._stack.append(self._found.add(f"{module}.{name}"))
        else:
            self._found.complete = False
            self._stack.append(OPAQUE)

    def _extension(self, argument: bytes) -> None:
        # What the number means is known only to the process that registered it.
        self._found.complete = False
        self._stack.append(self._found.add(f"copyreg.extension_{_index(argument)}"))

    def _persistent(self, argument: Any) -> None:
        # What the identifier means is up to whoever loads the file.
        self._found.persistent = True
        if argument is None:
            self._stack.pop()
        self._stack.append(OPAQUE)

    def _inst(self, argument: tuple[bytes, bytes]) -> None:
        arguments = tuple(self._pop_mark())
        self._global(argument)
        self._call(self._stack.pop(), arguments)

    def _obj(self, _: Any) -> None:
        items = self._pop_mark()
        self._call(items[0], tuple(items[1:]))

    def _reduce(self, _: Any) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._call(maker, arguments)

    def _newobj_ex(self, _: Any) -> None:
        self._stack.pop()
        self._reduce(None)

    def _call(self, maker: Any, arguments: Any) -> None:
        first = arguments[0] if isinstance(arguments, tuple) and arguments else None
        name = maker.name if isinstance(maker, Global) else ""
        if name in _GETATTR and isinstance(arguments, tuple) and len(arguments) > 1:
            if isinstance(arguments[1], str):
                self._stack.append(self._found.add(f"{described(first)}.{arguments[1]}"))
                return
            self._found.complete = False
        if name in _IMPORT and isinstance(first, str):
            self._stack.append(self._found.add(first))
            return
        if name == "_codecs.encode" and isinstance(first, str):
            # This is how bytes are written before protocol 3; another encoding only changes what is followed.
            self._stack.append(first.encode("latin-1", "replace"))
            return
        if name in _LOADS:
            self._nested(first)
        self._stack.append(Made(maker, arguments))

    def _nested(self, data: Any) -> None:
        if not isinstance(data, bytes) or self._depth >= DEEPEST:
            self._found.complete = False
            return
        try:
            Machine(Stream(io.BytesIO(data)), self._found, depth=self._depth + 1, follow=False).run()
        except BrokenStream:
            self._found.complete = False

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if not isinstance(made, Made):
            return
        made.state = state
        kind = class_of(made)
        if kind in _OLD_ARRAYS:
            # These keep their bytes in files beside this one.
            self._found.joblib, self._found.complete = True, False
        if kind == _ARRAY and self._follow:
            self._found.joblib = True
            self._array(state)
            self._stack[-1] = OPAQUE

    def _array(self, state: Any) -> None:
        """Pass over the bytes of an array, which joblib wrote right here."""
        shape = state.get("shape") if isinstance(state, Pairs) else None
        itemsize = itemsize_of(state.get("dtype")) if isinstance(state, Pairs) else None
        if itemsize is None or not isinstance(shape, tuple):
            raise EnoughSeen
        if itemsize == 0:
            if self._depth >= DEEPEST:
                raise EnoughSeen
            Machine(self._stream, self._found, depth=self._depth + 1, follow=False).run()
            return
        size = itemsize
        for length in shape:
            if not isinstance(length, int) or not 0 <= length <= LARGEST_ARRAY:
                raise EnoughSeen
            size = min(size * length, LARGEST_ARRAY)
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.skip(self._stream.take(1)[0])
        self._stream.skip(size)


def _effect(info: pickletools.OpcodeInfo) -> tuple[bool, int, int]:
    """Whether an opcode takes everything above a mark, how many more it takes, how many it puts."""
    ignored = (pickletools.markobject, pickletools.stackslice)
    below = [item for item in info.stack_before if item not in ignored]
    return pickletools.markobject in info.stack_before, len(below), len(info.stack_after)


_EFFECTS = {info.name: _effect(info) for info in pickletools.opcodes}


def _constant(opcode: str, argument: Any) -> Any:
    if not isinstance(argument, bytes):
        return True if opcode == "NEWTRUE" else None if opcode == "NONE" else OPAQUE
    if opcode in _NUMBERS:
        # A longer number is no length of an array, and nothing else of a number matters.
        return (
            OPAQUE
            if len(argument) > 8
            else int.from_bytes(argument, "little", signed=opcode not in ("BININT1", "BININT2"))
        )
    try:
        if opcode in _TEXTS:
            return argument.decode("utf-8", "surrogatepass")
        if opcode == "UNICODE":
            return argument.decode("raw-unicode-escape")
    except UnicodeDecodeError as error:
        raise BrokenStream("a text in it is not UTF-8") from error
    if opcode in _OLD_TEXTS:
        return argument.decode("latin-1")
    if opcode == "STRING":
        return OPAQUE if b"\\" in argument else argument.strip(b"'\"").decode("latin-1")
    if opcode in ("INT", "LONG"):
        digits = argument.removesuffix(b"L")
        return int(digits) if re.fullmatch(rb"-?\d{1,18}", digits) else OPAQUE
    return argument if opcode in ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8") else OPAQUE


def _index(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


def _line_index(argument: bytes) -> int:
    if re.fullmatch(rb"\d{1,18}", argument) is None:
        raise BrokenStream("a memo number in it is none")
    return int(argument)


_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_to_mark,
    "DUP": Machine._dup,
    "PROTO": Machine._proto,
    "FRAME": lambda machine, argument: None,
    "PUT": Machine._put_line,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._memoize,
    "GET": Machine._get_line,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "EMPTY_TUPLE": lambda machine, argument: machine._tuple_of(0),
    "TUPLE1": lambda machine, argument: machine._tuple_of(1),
    "TUPLE2": lambda machine, argument: machine._tuple_of(2),
    "TUPLE3": lambda machine, argument: machine._tuple_of(3),
    "TUPLE": Machine._tuple,
    "EMPTY_DICT": Machine._empty_dict,
    "DICT": Machine._dict,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "EXT1": Machine._extension,
    "EXT2": Machine._extension,
    "EXT4": Machine._extension,
    "PERSID": Machine._persistent,
    "BINPERSID": Machine._persistent,
    "INST": Machine._inst,
    "OBJ": Machine._obj,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._newobj_ex,
    "BUILD": Machine._build,
}
