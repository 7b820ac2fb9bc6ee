"""What reading and writing costs in each wire format, next to plain ``json``; nothing else runs.

    python -m bench --only formats

*Reading* is the bytes of a request to packed arrays, checked against the signature; *writing* is the arrays
of an answer to bytes. Plain ``json`` is what a handler does by hand, with no check of anything:
``np.asarray(json.loads(body)["inputs"], dtype)`` and ``json.dumps({name: array.tolist(), ...})``, in which a
classifier's labels are looked up. The formats take turns, and each is compared with plain ``json`` in the
same turn.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.wire_bodies import FORMATS, TABLE, TENSOR, TEXT, Format
from servable.artifact.signature import Field, Signature
from servable.protocols.base import CodecLimits
from servable.tensors import PREDICTION, PROBABILITIES, Response

#: The rows that others are compared with: whole answers, and answers that are the labels alone.
PLAIN, PLAIN_BARE = "plain json", "plain json, labels alone"
_COUNTS = (1, 32, 10_000)
#: One figure takes this share of the seconds that a server is loaded in other sections.
_SHARE = 0.01
_CLASSES = ("setosa", "versicolor", "virginica")
#: Seconds between two looks at the clock.
_GLANCE_S = 0.0005
#: The length of an embedding.
_WIDTH = 64

Call = Callable[[], Any]


class Shape(NamedTuple):
    """What is sent: its name, what it is made of, the signature, the rows, and an answer to them."""

    name: str
    kind: str
    signature: Signature
    rows: "np.ndarray[Any, Any]"
    answer: dict[str, Any]


class Way(NamedTuple):
    """One format for one shape, ready to be timed; None where it has no such thing."""

    name: str
    compared: str
    size: int | None
    read: Call | None
    write: Call


def run(_models: dict[str, Any], rounds: int, seconds: float) -> dict[str, Any]:
    """Every format on every shape.

    Args:
        _models: not needed.
        rounds: turns of each format.
        seconds: as for servers; a figure takes a hundredth of it in each turn, and one call at least.

    Returns:
        ``shapes`` by kind, and ``figures``: microseconds and the ratio to plain json, medians of the turns.
    """
    found = shapes()
    # What was imported is left out of every collection of garbage: a server has not imported as much.
    gc.collect()
    gc.freeze()
    named: dict[str, list[str]] = {}
    for shape in found:
        named.setdefault("texts" if shape.kind == TEXT else "numbers", []).append(shape.name)
    figures = [figure for shape in found for figure in _measured(shape, rounds, seconds * _SHARE)]
    return {"rounds": rounds, "seconds": seconds * _SHARE, "shapes": named, "figures": figures}


def shapes() -> list[Shape]:
    """One, 32 and 10,000 rows of a table, one picture, and as many texts as rows."""
    random = np.random.default_rng(0)
    fields = tuple(Field(name=f"column {index}", kind="number", dtype="float64") for index in range(4))
    label = Field(name="species", kind="category", dtype="str", values=_CLASSES)
    table = Signature(task="classification", inputs=fields, outputs=(label,), probabilities=True)
    found = []
    for count in _COUNTS:
        chances = random.random((count, 3))
        answer = {PREDICTION: chances.argmax(1), PROBABILITIES: chances / chances.sum(1, keepdims=True)}
        found.append(Shape(_counted(count, "row"), TABLE, table, random.random((count, 4)), answer))
    picture = random.random((1, 3, 224, 224), dtype=np.float32)
    tensor = Field(name="image", kind="tensor", dtype="float32", shape=(3, 224, 224))
    out = Field(name="out", kind="tensor", dtype="float32", shape=(3, 224, 224))
    other = Signature(task="transform", inputs=(tensor,), outputs=(out,))
    found.append(Shape("1x3x224x224", TENSOR, other, picture, {"out": picture}))
    text = Field(name="text", kind="text", dtype="str")
    vector = Field(name="vector", kind="tensor", dtype="float32", shape=(_WIDTH,))
    embedder = Signature(task="transform", inputs=(text,), outputs=(vector,))
    for count in _COUNTS:
        texts = np.array([[f"what is said in the text of number {index}"] for index in range(count)], object)
        vectors = random.random((count, _WIDTH), dtype=np.float32)
        found.append(Shape(_counted(count, "text"), TEXT, embedder, texts, {"vector": vectors}))
    return found


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' if count > 1 else ''}"


# ---------------------------------------------------------------------- ways


def _plain(shape: Shape) -> list[Way]:
    """What a handler does by hand; for a classifier also with the labels alone as the answer."""
    body = json.dumps({"inputs": shape.rows.tolist()}).encode()
    dtype, answer = shape.rows.dtype, shape.answer

    def read() -> Any:
        return np.asarray(json.loads(body)["inputs"], dtype)

    def labels() -> list[str]:
        return [_CLASSES[index] for index in answer[PREDICTION].tolist()]

    def write() -> bytes:
        named = {name: labels() if name == PREDICTION else array.tolist() for name, array in answer.items()}
        return json.dumps(named).encode()

    def write_labels() -> bytes:
        return json.dumps({"predictions": labels()}).encode()

    found = [Way(PLAIN, PLAIN, len(body), read, write)]
    if PREDICTION in answer:
        found.append(Way(PLAIN_BARE, PLAIN_BARE, None, None, write_labels))
    return found


def _own(each: Format, shape: Shape) -> Way:
    """A format whose codec reads the rows that were sent.

    Raises:
        SystemExit: it reads something else.
    """
    body, head = each.body(shape.signature, shape.rows)
    codec = each.maker(shape.signature, CodecLimits())
    request = codec.decode(body, "id", head)
    if request.rows != len(shape.rows):
        raise SystemExit(f"{each.name} read {request.rows} rows of {len(shape.rows)}")
    for array in request.arrays.values():
        if not np.array_equal(array, shape.rows):
            raise SystemExit(f"{each.name} read other values than were sent")
    response = Response(shape.answer, request.rows, "id", "iris", 1, request.single, request.wish)
    labels = each.bare and PREDICTION in shape.answer
    return Way(
        each.name,
        PLAIN_BARE if labels else PLAIN,
        len(body),
        lambda: codec.decode(body, "id", head),
        lambda: codec.encode(response),
    )


# ---------------------------------------------------------------------- figures


def _measured(shape: Shape, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The figures of all formats for one shape."""
    ways = [*_plain(shape), *(_own(each, shape) for each in FORMATS if shape.kind in each.carries)]
    read: dict[str, list[float]] = {}
    write: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way in ways:
            if way.read is not None:
                read.setdefault(way.name, []).append(_microseconds(way.read, seconds))
            write.setdefault(way.name, []).append(_microseconds(way.write, seconds))
    return [
        {"format": way.name, "shape": shape.name, "bytes": way.size, "compared": way.compared}
        | _against("read", read.get(way.name), read[PLAIN])
        | _against("write", write[way.name], write[way.compared])
        for way in ways
    ]


def _against(what: str, own: list[float] | None, plain: list[float]) -> dict[str, float | None]:
    """Medians of microseconds, and of the ratios within the rounds."""
    if own is None:
        return {f"{what}_us": None, f"{what}_ratio": None}
    ratios = [one / other for one, other in zip(own, plain, strict=True)]
    return {f"{what}_us": statistics.median(own), f"{what}_ratio": statistics.median(ratios)}


def _microseconds(call: Call, seconds: float) -> float:
    """Of the processor for one call, on the average of some.

    The first call is not counted unless it takes all the time alone. What others do on the machine meanwhile
    is not counted either.
    """
    start = time.process_time()
    call()
    first = time.process_time() - start
    if first >= seconds:
        return first * 1e6
    # The clock is read once for several short calls, so that it is no part of the figure.
    several = range(max(1, int(_GLANCE_S / max(first, 1e-7))))
    calls, start = 0, time.process_time()
    while (passed := time.process_time() - start) < seconds:
        for _ in several:
            call()
        calls += len(several)
    return passed / calls * 1e6
