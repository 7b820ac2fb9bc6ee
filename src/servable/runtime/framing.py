"""Frames between a server and a model process, or its keeper: a fixed head, so many bytes, no code.

A frame is a head of 32 bytes, then its payload, then its meta::

    4 bytes   magic, SVFR
    1 byte    version of this form
    1 byte    kind, one of ``Kind``
    2 bytes   flags; ``IN_AREA``: the payload lies in shared memory and does not follow
    8 bytes   number of the request that it belongs to
    4 bytes   length of the meta
    8 bytes   length of the payload
    4 bytes   zero

All numbers are little-endian. The meta is MessagePack: for arrays a list of where each of them lies
(see ``packing``), otherwise one of the records below. The payload comes first so that it starts at a
multiple of 32 bytes. Both sides bound every length before they make room for it, and what does not fit
this form ends the connection: the other side is broken or hostile, and there is no way back into step.

Nothing here does input or output except ``read_frame``.
"""

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from servable import errors
from servable.errors import ModelDied, ServableError
from servable.runtime.confinement import USUAL, Confinement, Protection

MAGIC = b"SVFR"
VERSION = 1
#: Flag: the payload lies in the sender's shared memory area.
IN_AREA = 1
#: Longest payload that may follow in the frame itself.
LARGEST_PAYLOAD = 64 * 1024
#: Longest meta: some ten thousand arrays.
LARGEST_META = 1024 * 1024
#: Longest payload in shared memory that a head may announce; what is really there is checked as well.
LARGEST_AREA = 2**46

_HEAD = struct.Struct("<4sBBHQIQ4x")
HEAD_SIZE = _HEAD.size
_FIRST_ROOM = 32 * 1024
#: Pieces of a stream that a child may make before the first is taken: enough to hide the way, few enough that
#: a reader who stops stops the model.
AHEAD = 4


class Kind(IntEnum):
    """What a frame is about."""

    #: To the child: what to load.
    LOAD = 1
    #: From the child: loaded, rehearsed, waiting. A keeper says it again when it moved the model.
    READY = 2
    #: To the child: arrays to answer.
    RUN = 3
    #: From the child: the answer's arrays.
    ANSWER = 4
    #: From the child: why there is no answer, or why nothing was loaded.
    FAILED = 5
    #: To the child: say that you live.
    PING = 6
    #: From the child: it lives.
    PONG = 7
    #: To the child: arrays to answer in pieces; it says with an ANSWER of nothing that it began.
    STREAM = 8
    #: From the child: the next piece of the stream of this number.
    PIECE = 9
    #: From the child: there are no more pieces, or it did as STOP says. FAILED ends a stream as well.
    END = 10
    #: To the child: so many more pieces of a stream may be made.
    MORE = 11
    #: To the child: nobody wants more of a stream; it is answered with END, unless the stream is over.
    STOP = 12
    #: To the child: what lay in the area of answers was taken, so that it may be written anew.
    TAKEN = 13
    #: From a keeper: a process of the model was replaced. Told to one of those who share it.
    REPLACED = 14


_KINDS = {int(kind): kind for kind in Kind}


#: The errors that a child may report as what they are.
_SAYABLE: dict[str, type[ServableError]] = {
    kind.code: kind
    for kind in (
        errors.ArtifactError,
        errors.ArtifactUnreadable,
        errors.ArtifactUntrusted,
        errors.ArtifactTampered,
        errors.ArtifactUnsupported,
        errors.DependencyMissing,
        errors.FileMissing,
        errors.ModelDied,
        errors.ModelFailed,
        errors.ModelNotReady,
        errors.StorageFailed,
        errors.StorageFull,
        errors.SurroundingsError,
    )
}


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What a keeper must know to hold a model for several servers.

    Attributes:
        name: of the model, for people.
        processes: how many work, for all who share them together.
        spares: how many more are kept ready.
        run_s: seconds after which a run is a hang.
        start_s: seconds within which a process must be ready.
        max_rows: most rows in one run of rows of several servers.
        accelerator: the GPU that it will run on, where its memory is counted; else empty.
        accelerator_bytes: what each process is thought to take of that GPU, until it was measured.
        accelerator_budget: bytes that all models may hold of that GPU.
        mixes: whether the variant says that rows of one run influence each other, so that no run has rows of
            several servers.
    """

    name: str
    processes: int = 1
    spares: int = 0
    run_s: float = 30.0
    start_s: float = 120.0
    max_rows: int = 1024
    accelerator: str = ""
    accelerator_bytes: int = 0
    accelerator_budget: int = 0
    mixes: bool = False


class Standing(IntEnum):
    """Where a model process stands among those that want a processor.

    Attributes:
        LEVEL: with all others.
        BEHIND: a little behind while it loads, so that it comes to an end with it; far behind afterwards.
        FAR_BEHIND: it runs only where nobody else wants the processor, from its first instruction on.
    """

    LEVEL = 0
    BEHIND = 1
    FAR_BEHIND = 2


class Load(msgspec.Struct, frozen=True, array_like=True):
    """Meta of LOAD.

    Attributes:
        folder: of the package.
        digest: that the package must have.
        variant: to load.
        memory_bytes: resident memory beyond which the process will be replaced.
        paths: where the server imports from; the child imports from there as well.
        device: what should compute it: ``auto cpu cuda cuda:1``.
        share: for a keeper, who loads it in processes of its own; None for a model process.
        behind: where the process stands among those that want a processor.
        confinement: what the process is to be kept from.
    """

    folder: str
    digest: str
    variant: str
    memory_bytes: int
    paths: tuple[str, ...]
    device: str = "auto"
    share: Share | None = None
    behind: Standing = Standing.LEVEL
    confinement: Confinement = USUAL


class Ready(msgspec.Struct, frozen=True, array_like=True):
    """Meta of READY.

    Attributes:
        example_seconds: median time of one row.
        load_seconds: opening, loading and rehearsing together.
        memory_bytes: resident memory of the child now.
        device: what computes it.
        device_note: why that is not what should; empty when it is.
        accelerator_bytes: of the memory of its GPU, what the child took; 0 on the processor.
        protections: how it is confined; empty where it is not.
    """

    example_seconds: float
    load_seconds: float
    memory_bytes: int
    device: str = "cpu"
    device_note: str = ""
    accelerator_bytes: int = 0
    protections: tuple[Protection, ...] = ()


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """Meta of FAILED: code word and sentence of the error."""

    code: str
    message: str

    def error(self, other: type[ServableError]) -> ServableError:
        """The error, of class ``other`` where the code is none that a child may say."""
        return _SAYABLE.get(self.code, other)(self.message)


class Frame(NamedTuple):
    """A whole frame.

    Attributes:
        kind: see ``Kind``.
        number: of the request, 0 where it belongs to none.
        meta: MessagePack.
        payload: what followed in the frame; empty when it lies in shared memory.
        in_area: bytes of payload in shared memory, -1 when it followed in the frame.
    """

    kind: Kind
    number: int
    meta: bytes
    payload: bytes
    in_area: int = -1


def head(kind: Kind, number: int, meta: int, payload: int, flags: int = 0) -> bytes:
    """The 32 bytes before a payload and a meta of these lengths."""
    return _HEAD.pack(MAGIC, VERSION, kind, flags, number, meta, payload)


def encode(frame: Frame) -> bytes:
    """A frame as bytes."""
    if frame.in_area >= 0:
        return head(frame.kind, frame.number, len(frame.meta), frame.in_area, IN_AREA) + frame.meta
    start = head(frame.kind, frame.number, len(frame.meta), len(frame.payload))
    return start + frame.payload + frame.meta


def broken(what: str) -> ModelDied:
    """The error for bytes that do not fit the form."""
    return ModelDied(f"The process of the model sent {what}, so it cannot be trusted any more.")


class FrameBuffer:
    """Puts frames together from whatever pieces a socket gives. Belongs to one reader.

    Receive into ``room()``, say how much came with ``received()``, then ``take()`` until it gives None.
    """

    __slots__ = ("_data", "_filled", "_taken", "_view")

    def __init__(self) -> None:
        self._data = bytearray(_FIRST_ROOM)
        self._view = memoryview(self._data)
        self._filled = 0
        self._taken = 0

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._view[self._filled :]

    def received(self, count: int) -> None:
        """So many bytes were written into ``room()``."""
        self._filled += count

    @property
    def partial(self) -> bool:
        """Whether there are bytes of a frame that is not whole yet."""
        return self._filled > self._taken

    def take(self) -> Frame | None:
        """The next whole frame, None until more bytes came.

        Raises:
            ModelDied: the bytes are no frame.
        """
        start = self._taken
        have = self._filled - start
        if have < HEAD_SIZE:
            self._make_room(HEAD_SIZE)
            return None
        magic, version, kind, flags, number, meta, payload = _HEAD.unpack_from(self._data, start)
        if magic != MAGIC or version != VERSION or kind not in _KINDS or flags > IN_AREA:
            raise broken("bytes that are no frame")
        following = 0 if flags else payload
        if meta > LARGEST_META or following > LARGEST_PAYLOAD or payload > LARGEST_AREA:
            raise broken("a frame that is too long")
        size = HEAD_SIZE + following + meta
        if have < size:
            self._make_room(size)
            return None
        first = start + HEAD_SIZE
        middle = first + following
        end = middle + meta
        frame = Frame(
            _KINDS[kind],
            number,
            bytes(self._view[middle:end]),
            bytes(self._view[first:middle]) if following else b"",
            payload if flags else -1,
        )
        if end == self._filled:
            self._filled = self._taken = 0
        else:
            self._taken = end
        return frame

    def _make_room(self, size: int) -> None:
        """Move what is there to the front, and see that a frame of this size has room."""
        have = self._filled - self._taken
        if self._taken:
            # Through bytes, because the two ranges may overlap.
            self._view[:have] = bytes(self._view[self._taken : self._filled])
            self._filled, self._taken = have, 0
        if size > len(self._data):
            larger = bytearray(size)
            larger[:have] = self._view[:have]
            self._data, self._view = larger, memoryview(larger)


def read_frame(source: socket.socket, buffer: FrameBuffer) -> Frame | None:
    """Wait for the next frame of a blocking socket.

    Returns:
        None when the other side ended, in the middle of a frame or between two.

    Raises:
        ModelDied: the bytes are no frame.
    """
    while (frame := buffer.take()) is None:
        try:
            count = source.recv_into(buffer.room())
        except ConnectionError:
            return None
        if count == 0:
            return None
        buffer.received(count)
    return frame
