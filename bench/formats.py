"""What reading and writing costs in each wire format, next to plain ``json``; nothing else runs.

    python -m bench --only formats

*decode* is the bytes of a request to packed arrays, checked against the signature; *encode* is the arrays of
an answer to bytes. Plain ``json`` is what a handler does by hand, with no check of anything:
``np.array(json.loads(body)["inputs"])`` and ``json.dumps(array.tolist())``.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.wire_bodies import FORMATS, Format
from servable.artifact.signature import Field, Signature
from servable.protocols.base import CodecLimits
from servable.tensors import PREDICTION, PROBABILITIES, Response

_ROUNDS = 5
#: Seconds of one round of one figure.
_ROUND_S = 0.04
_CLASSES = ("setosa", "versicolor", "virginica")


class Shape(NamedTuple):
    """What is sent: its name, the signature, the rows, and an answer to them."""

    name: str
    signature: Signature
    rows: "np.ndarray[Any, Any]"
    answer: dict[str, Any]


class Figure(NamedTuple):
    """Microseconds of one format for one shape; None where the format has no such thing."""

    format: str
    shape: str
    decode_us: float | None
    encode_us: float | None


def shapes() -> list[Shape]:
    """One, 32 and 10,000 rows of a table, and one picture."""
    random = np.random.default_rng(0)
    fields = tuple(Field(name=f"column {index}", kind="number", dtype="float64") for index in range(4))
    label = Field(name="species", kind="category", dtype="str", values=_CLASSES)
    table = Signature(task="classification", inputs=fields, outputs=(label,), probabilities=True)
    found = []
    for count in (1, 32, 10_000):
        chances = random.random((count, 3))
        answer = {PREDICTION: chances.argmax(1), PROBABILITIES: chances / chances.sum(1, keepdims=True)}
        found.append(
            Shape(f"{count:,} row{'s' if count > 1 else ''}", table, random.random((count, 4)), answer)
        )
    picture = random.random((1, 3, 224, 224), dtype=np.float32)
    tensor = Field(name="image", kind="tensor", dtype="float32", shape=(3, 224, 224))
    out = Field(name="out", kind="tensor", dtype="float32", shape=(3, 224, 224))
    other = Signature(task="transform", inputs=(tensor,), outputs=(out,))
    return [*found, Shape("1x3x224x224", other, picture, {"out": picture})]


def run() -> list[Figure]:
    """Every format on every shape."""
    figures = []
    for shape in shapes():
        figures.append(_plain(shape))
        figures += [figure for each in FORMATS if (figure := _measured(each, shape)) is not None]
    return figures


def _plain(shape: Shape) -> Figure:
    body = json.dumps({"inputs": shape.rows.tolist()}).encode()
    answer = list(shape.answer.values())
    return Figure(
        "plain json",
        shape.name,
        _microseconds(lambda: np.array(json.loads(body)["inputs"], shape.rows.dtype)),
        _microseconds(lambda: json.dumps([array.tolist() for array in answer]).encode()),
    )


def _measured(each: Format, shape: Shape) -> Figure | None:
    made = each.body(shape.signature, shape.rows)
    if made is None:
        return None
    body, head = made
    codec = each.maker(shape.signature, CodecLimits())
    request = codec.decode(body, "id", head)
    if request.rows != len(shape.rows):
        raise SystemExit(f"{each.name} read {request.rows} rows of {len(shape.rows)}")
    for array in request.arrays.values():
        if not np.allclose(array, shape.rows):
            raise SystemExit(f"{each.name} read other numbers than were sent")
    response = Response(shape.answer, request.rows, "id", "iris", 1, request.single, request.wish)
    return Figure(
        each.name,
        shape.name,
        _microseconds(lambda: codec.decode(body, "id", head)),
        _microseconds(lambda: codec.encode(response)),
    )


def _microseconds(call: Callable[[], Any]) -> float:
    """Of one call: the median of the rounds."""
    call()
    rounds = []
    for _ in range(_ROUNDS):
        calls, start = 0, time.perf_counter()
        while not calls or time.perf_counter() - start < _ROUND_S:
            call()
            calls += 1
        rounds.append((time.perf_counter() - start) / calls)
    return statistics.median(rounds) * 1e6


def report(figures: list[Figure]) -> str:
    """The figures as one table for each shape."""
    lines: list[str] = []
    for shape in dict.fromkeys(figure.shape for figure in figures):
        rows = [figure for figure in figures if figure.shape == shape]
        plain = rows[0]
        lines += [
            f"**{shape}**",
            "",
            "| format | decode us | of json | encode us | of json |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            decode = _cells(row.decode_us, plain.decode_us)
            lines.append(f"| {row.format} | {decode} | {_cells(row.encode_us, plain.encode_us)} |")
        lines.append("")
    return "\n".join(lines)


def _cells(own: float | None, plain: float | None) -> str:
    if own is None or plain is None:
        return " | "
    return f"{own:,.1f} | {own / plain:.2f}x"
