"""Where a model process begins: ``python -m servable.runtime.child_process``.

It hears from its server what to load, confines itself, and only then imports what answers: NumPy and its
like start threads when they are imported, and those could not be confined any more.
"""

import os
import socket
import sys
from pathlib import Path

import msgspec

from servable import logs
from servable.errors import ModelDied, ServableError
from servable.runtime.confine import confine
from servable.runtime.confinement import Mode
from servable.runtime.enforcing import enforce
from servable.runtime.framing import Failed, Frame, FrameBuffer, Kind, Load, encode, read_frame


def main(arguments: list[str]) -> int:
    """Run as a model process.

    Args:
        arguments: process id of the server; the descriptors of the socket, of the area of requests and of the
            area of answers; the folder of this process, empty for none.
    """
    parent, *descriptors = map(int, arguments[:4])
    confine(parent)
    # Without this Python would write what was raised with its words, which quote rows.
    logs.configure("warning", "text")
    for descriptor in descriptors:
        # What the model starts must hold neither the socket nor the areas.
        os.set_inheritable(descriptor, False)
    try:
        return _answer(descriptors, arguments[4])
    except ModelDied as error:
        sys.stderr.write(f"A model process ends: {error.message}\n")
        return 2
    except ConnectionError:
        return 0


def _answer(descriptors: list[int], folder: str) -> int:
    """The exit status: 0 when the server ended it, 1 when nothing was loaded."""
    link, frames = socket.socket(fileno=descriptors[0]), FrameBuffer()
    first = read_frame(link, frames)
    if first is None or first.kind is not Kind.LOAD:
        return 0
    load = _settled(msgspec.msgpack.decode(first.meta, type=Load), folder)
    try:
        protections = enforce(load, folder)
    except ServableError as error:
        failed = msgspec.msgpack.encode(Failed(error.code, error.message))
        link.sendall(encode(Frame(Kind.FAILED, 0, failed, b"")))
        return 1
    from servable.runtime.child import Descriptors, Loop  # Here: see above.

    return Loop(link, frames, Descriptors(*descriptors[1:])).run(load, protections)


def _settled(load: Load, folder: str) -> Load:
    """The load with whole paths, and this process where what it loads may write by a short name."""
    # What the server imports from, also where it named that from where it is.
    sys.path[:] = dict.fromkeys(str(Path(path).absolute()) for path in (*sys.path, *load.paths))
    load = msgspec.structs.replace(load, folder=str(Path(load.folder).absolute()))
    if folder and load.confinement.mode is not Mode.OFF:
        os.chdir(folder)
    return load


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
