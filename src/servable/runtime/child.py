"""A model process: one variant of one package, answering batches that come over one socket.

Started and confined by ``child_process``, before it reads a byte of the package. It imports only what that
variant needs (no server, no HTTP, no database), and answers one batch at a time, in its only thread, until
the socket ends. Between batches it makes the next pieces of its streams, one at a time and in turn.

The arrays of a large batch are read-only views of shared memory: they hold while the model runs, and a
model that keeps them must copy them.
"""

import gc
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.package import open_package
from servable.errors import ArtifactUnreadable, ModelDied, ModelFailed, ServableError
from servable.frameworks import lookup
from servable.frameworks.accelerators import Before
from servable.frameworks.base import Predictor
from servable.frameworks.devices import THREADED, may_use_gpu, on_device, placed_of
from servable.runtime.arena import Area
from servable.runtime.confine import (
    bound_loading,
    bound_working,
    is_shortage,
    resident_bytes,
    stand_back,
    stand_far_back,
)
from servable.runtime.confinement import Protection
from servable.runtime.courses import Courses
from servable.runtime.footprint import free_evenly
from servable.runtime.framing import (
    IN_AREA,
    Failed,
    Frame,
    FrameBuffer,
    Kind,
    Load,
    Ready,
    Standing,
    head,
    read_frame,
)
from servable.runtime.packing import Packed, unpack
from servable.runtime.rehearsal import rehearse
from servable.tensors import row_count

#: Payloads up to this size travel in the frame itself; see ``process`` for the measurement.
IN_FRAME = 16 * 1024
#: Ends the sentence of what failed for want of memory.
_TOO_LARGE = "its process may not take as much memory as it wanted: raise process_memory."
_encode = msgspec.msgpack.Encoder().encode


class Descriptors(NamedTuple):
    """What a child inherits besides the socket: the area of requests, the area of answers."""

    requests: int
    answers: int


class Loop:
    """Reads batches, answers them, and ends with the socket.

    Args:
        link: to the server.
        frames: what came over it so far.
        descriptors: of the areas of requests and of answers.
    """

    def __init__(self, link: socket.socket, frames: FrameBuffer, descriptors: Descriptors) -> None:
        self._socket = link
        self._frames = frames
        self._requests = Area(descriptors.requests)
        self._answers = Area(descriptors.answers)
        #: Whether the area of answers holds something that the server has not taken yet.
        self._untaken = False
        #: Frames that came while that was waited for.
        self._aside: deque[Frame] = deque()
        self._courses = Courses(self, self._guarded)

    def run(self, load: Load, protections: tuple[Protection, ...]) -> int:
        """Load, then answer. The exit status: 0 when the server ended it, 1 when nothing was loaded.

        Raises:
            ModelDied: the server sent something that is no batch.
            ConnectionError: it does not listen any more.
        """
        try:
            predictor, ready = _load(load)
        except ServableError as error:
            self._fail(0, error)
            return 1
        except Exception as foreign:  # noqa: BLE001 - a library may raise anything; the server must hear of it
            name = type(foreign).__name__
            self._fail(
                0, ArtifactUnreadable(f"The model cannot be loaded: its library raised {name}."), foreign
            )
            return 1
        ready = msgspec.structs.replace(ready, protections=protections)
        self._send(Kind.READY, 0, _encode(ready))
        try:
            self._serve(predictor)
        finally:
            self._courses.close()
        return 0

    def _serve(self, predictor: Predictor) -> None:
        """Answer until the socket ends."""
        courses = self._courses
        while True:
            if courses.ready and not self._aside and not self._frames.partial and not self._heard():
                courses.step()
                continue
            frame = self._aside.popleft() if self._aside else self._read()
            if frame is None:
                return
            self._obey(predictor, frame)

    def _obey(self, predictor: Predictor, frame: Frame) -> None:
        kind, number = frame.kind, frame.number
        if kind is Kind.RUN:
            self._guarded(number, lambda: self._answer(predictor, frame))
        elif kind is Kind.PING:
            self._send(Kind.PONG, number, b"")
        elif kind is Kind.STREAM:
            self._guarded(number, lambda: self._begin(predictor, frame))
        elif kind is Kind.MORE:
            self._courses.more(number, msgspec.msgpack.decode(frame.meta, type=int))
        elif kind is Kind.STOP:
            self._courses.stop(number)
        elif kind is Kind.TAKEN:
            self._untaken = False

    def _read(self) -> Frame | None:
        return read_frame(self._socket, self._frames)

    def _heard(self) -> bool:
        """Whether something can be read without waiting."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def _guarded(self, number: int, work: Callable[[], None]) -> bool:
        """Do what a frame asks; whether it went well. What it raises is told under the frame's number."""
        try:
            work()
        except ModelDied:
            # The server sent something that is no batch: there is no way to go on with it.
            raise
        except ServableError as error:
            self._fail(number, error)
        except ConnectionError:
            # The server does not listen any more; the next read ends the loop.
            return False
        except (Exception, SystemExit) as foreign:  # noqa: BLE001 - whatever the model raises is its answer
            name = type(foreign).__name__
            self._fail(number, ModelFailed(f"The model failed ({name})."), foreign)
        else:
            return True
        return False

    def _answer(self, predictor: Predictor, frame: Frame) -> None:
        arrays = self._arrays(frame, copy=False)
        try:
            packed = Packed(predictor.predict(arrays))
        except (ServableError, ConnectionError):
            raise
        except (Exception, SystemExit) as foreign:
            name = type(foreign).__name__
            raise ModelFailed(f"The model failed on {row_count(arrays)} rows ({name}).") from foreign
        self._give(Kind.ANSWER, frame.number, packed)

    def _begin(self, predictor: Predictor, frame: Frame) -> None:
        # The area of requests is written anew while the stream goes on.
        self._courses.begin(frame.number, predictor, self._arrays(frame, copy=True))
        self._give(Kind.ANSWER, frame.number, Packed({}))

    def piece(self, number: int, arrays: dict[str, Any]) -> None:
        """The next piece of a stream."""
        self._give(Kind.PIECE, number, Packed(arrays))

    def ended(self, number: int) -> None:
        """A stream is over."""
        self._send(Kind.END, number, b"")

    def _arrays(self, frame: Frame, *, copy: bool) -> dict[str, Any]:
        payload: Any = frame.payload
        if frame.in_area >= 0:
            payload = self._requests.to_read(frame.in_area)
        return unpack(frame.meta, payload, copy=copy)

    def _give(self, kind: Kind, number: int, packed: Packed) -> None:
        """Arrays to the server, through the area where they are large."""
        if packed.size > IN_FRAME:
            while self._untaken:
                frame = self._read()
                if frame is None:
                    raise ConnectionResetError
                if frame.kind is Kind.TAKEN:
                    self._untaken = False
                else:
                    self._aside.append(frame)
            packed.write(self._answers.to_write(packed.size))
            self._untaken = True
            self._send(kind, number, packed.meta, in_area=packed.size)
        else:
            self._send(kind, number, packed.meta, packed.payload())

    def _fail(self, number: int, error: ServableError, cause: BaseException | None = None) -> None:
        # A model may put whole rows into what it raises; adapters do not, and this bounds what others do.
        message = error.message[:1000]
        if is_shortage(cause or error):
            message = f"{message.rstrip('.')}; {_TOO_LARGE}"
        self._send(Kind.FAILED, number, _encode(Failed(error.code, message)))

    def _send(self, kind: Kind, number: int, meta: bytes, payload: bytes = b"", in_area: int = -1) -> None:
        if in_area >= 0:
            start = head(kind, number, len(meta), in_area, IN_AREA)
        else:
            start = head(kind, number, len(meta), len(payload))
        self._socket.sendall(start + payload + meta)


def _load(load: Load) -> tuple[Predictor, Ready]:
    """Open, load, rehearse, and bound what may come later.

    Raises:
        ServableError: the package or the model cannot be used, and why.
    """
    started = time.perf_counter()
    if load.behind is Standing.BEHIND:
        stand_back()
    elif load.behind is Standing.FAR_BEHIND:
        # Its server has put its first thread there already; its session and other threads follow.
        stand_far_back()
    # A driver of GPUs takes far more addresses than memory, so there only resident memory is watched.
    bounded = not may_use_gpu(load.device)
    if bounded:
        bound_loading(load.memory_bytes)
    package = open_package(Path(load.folder), digest=load.digest)
    manifest, signature = package.manifest, package.signature
    try:
        variant = manifest.variant(load.variant)
    except KeyError as error:
        raise ArtifactUnreadable(f"{manifest.model} has no variant {error}.") from error
    adapter = lookup.adapter(variant.format)
    placed = on_device(variant, load.device)
    before = Before() if may_use_gpu(load.device) else None
    predictor = adapter.load(package.folder, placed, signature, trust=manifest.trusted)
    seconds = rehearse(predictor, signature, manifest.model)
    if bounded:
        cores = len(os.sched_getaffinity(0)) if variant.format in THREADED else 0
        bound_working(load.memory_bytes, cores)
    # What was loaded stays for good; looking through it again and again would only cost pauses.
    gc.collect()
    gc.freeze()
    free_evenly()
    if load.behind:
        stand_far_back()
    device, note = placed_of(predictor)
    taken = before.taken(predictor) if before is not None else 0
    loaded = time.perf_counter() - started
    return predictor, Ready(seconds, loaded, resident_bytes(), device, note, taken)
