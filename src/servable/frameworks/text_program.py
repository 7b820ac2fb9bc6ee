"""What a compiled text model is made of: records and arrays in a folder, without a line of code in them.

::

    text.json      a ``Program``: the signature, and ``Bags`` or ``Network``
    arrays.npz     the numbers of ``Bags``, without pickle
    rest.onnx      what the other columns of the table add to the scores (``Bags``, where there are some)
    network.onnx   token numbers to probabilities (``Network``)
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.files import storage_errors, write_file
from servable.artifact.sample import DAMAGE
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable
from servable.frameworks.text_tokens import Analyzer

PROGRAM_FILE = "text.json"
ARRAYS_FILE = "arrays.npz"
REST_FILE = "rest.onnx"
NETWORK_FILE = "network.onnx"

#: How scores become an answer, see ``text_answers``.
Head = Literal["logistic", "softmax", "one_vs_rest", "clipped", "label", "value"]
Arrays = Mapping[str, NDArray[Any]]


class Bag(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The counted tokens of one text column.

    Attributes:
        column: place of the column among the packed texts.
        analyzer: how a text becomes tokens.
        vocabulary: tokens by their number; others are passed over.
        binary: whether a token counts once, however often it occurs.
    """

    column: int
    analyzer: Analyzer
    vocabulary: tuple[str, ...]
    binary: bool = False


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bags side by side that are weighted and brought to length one together.

    The arrays ``weights_N`` float64 ``[tokens, scores]`` and, with ``idf``, ``idf_N`` float64 ``[tokens]``
    belong to the part of number N; tokens are those of the bags, one bag after the other.

    Attributes:
        bags: at least one.
        sublinear: whether a count n stands as ``1 + log n``.
        idf: whether counts are weighted by ``idf_N``.
        norm: what a row is divided by: the sum of its values' sizes, its Euclidean length, or nothing.
    """

    bags: tuple[Bag, ...]
    sublinear: bool = False
    idf: bool = False
    norm: Literal["", "l1", "l2"] = ""


class Bags(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="bags"):
    """A linear model of counted tokens: scores are ``bias`` plus what each part and the rest add.

    Attributes:
        parts: of the text columns.
        head: what becomes of the scores.
        rest: whether ``rest.onnx`` adds scores for the other columns.
    """

    parts: tuple[Part, ...]
    head: Head
    rest: bool = False


class Numbering(msgspec.Struct, frozen=True, kw_only=True):
    """How texts become token numbers: 0 fills up, 1 is a token that is not known, 2 starts the next column.

    Attributes:
        columns: places among the packed texts, read one after the other.
        analyzer: how a text becomes tokens.
        vocabulary: tokens from number 3 on.
        length: tokens that are read of a row at most.
    """

    columns: tuple[int, ...]
    analyzer: Analyzer
    vocabulary: tuple[str, ...]
    length: int


class Network(msgspec.Struct, frozen=True, kw_only=True, tag="network"):
    """A network over token numbers.

    ``network.onnx`` takes ``ids`` int64 ``[rows, steps]`` and ``lengths`` int32 ``[rows]`` and gives
    ``probabilities`` float32 ``[rows, classes]``.
    """

    numbering: Numbering


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A whole compiled text model.

    Attributes:
        signature: what it takes and gives.
        body: what it does.
    """

    signature: Signature
    body: Bags | Network


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A program with the content of its other files, by name.

    Attributes:
        program: see there.
        arrays: of ``arrays.npz``.
        graphs: of ``rest.onnx`` or ``network.onnx``.
    """

    program: Program
    arrays: dict[str, Any] = {}
    graphs: dict[str, bytes] = {}


def write_compiled(compiled: Compiled, folder: Path) -> None:
    """Write a compiled text model into a folder, which is made.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
        UnicodeEncodeError: a token is no text that UTF-8 knows.
    """
    with storage_errors("writing the text model"):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / PROGRAM_FILE, msgspec.json.encode(compiled.program))
    if compiled.arrays:
        write_file(folder / ARRAYS_FILE, packed(compiled.arrays))
    for name, data in compiled.graphs.items():
        write_file(folder / name, data)


def read_compiled(folder: Path) -> Compiled:
    """A compiled text model from its folder.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    data = _bytes(folder / PROGRAM_FILE)
    try:
        program = msgspec.json.decode(data, type=Program)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactUnreadable(
            f"{PROGRAM_FILE} is no text model ({error}); make or copy it again."
        ) from error
    body = program.body
    if isinstance(body, Network):
        return Compiled(program=program, graphs={NETWORK_FILE: _bytes(folder / NETWORK_FILE)})
    graphs = {REST_FILE: _bytes(folder / REST_FILE)} if body.rest else {}
    return Compiled(program=program, arrays=unpacked(folder / ARRAYS_FILE), graphs=graphs)


def packed(arrays: Arrays) -> bytes:
    """Arrays of numbers as the bytes of an ``.npz`` file."""
    out = BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def unpacked(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file; nothing in it is executed.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    try:
        with np.load(BytesIO(_bytes(path)), allow_pickle=False) as members:
            return {name: members[name] for name in members.files}
    except (*DAMAGE, TypeError, AttributeError) as error:
        raise ArtifactUnreadable(f"{path.name} holds no arrays ({error}); make or copy it again.") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactUnreadable(f"{path.name} of a text model cannot be read ({error.strerror}).") from error
