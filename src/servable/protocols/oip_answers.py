"""Answers of the Open Inference Protocol: JSON, the bytes behind it, and both compressed. Pure."""

import gzip
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from servable.errors import ServableError
from servable.protocols.base import Encoded
from servable.protocols.datatypes import BYTES, datatype_of, to_raw
from servable.protocols.oip_binary import LENGTH, MEDIA_TYPE, SIZE
from servable.protocols.oip_parameters import Chosen

JSON = "application/json"
#: Shorter answers are not worth compressing; longer ones would keep everybody else waiting.
COMPRESSED_FROM, COMPRESSED_TO = 1024, 1024 * 1024
_LEVEL = 1
_TEXTS = frozenset({str})
_encode = msgspec.json.Encoder().encode


def output_of(
    array: Any, chosen: Chosen, labels: Mapping[str, tuple[str, ...]], blobs: list[bytes]
) -> dict[str, Any]:
    """One output as an object for JSON; its bytes, if it is binary, are put behind the others.

    Args:
        array: the values, rows first.
        chosen: in which form.
        labels: what the indices of the last axis of an output mean, by its name.
        blobs: bytes so far.
    """
    name, binary, classes = chosen
    if classes:
        array = best_of(array, classes, labels[name])
    datatype = datatype_of(array.dtype)
    if binary:
        raw = to_raw(array)
        blobs.append(raw)
        return {"name": name, "datatype": datatype, "shape": array.shape, "parameters": {SIZE: len(raw)}}
    data = (array if array.ndim == 1 else array.ravel()).tolist()
    if datatype == BYTES and not _TEXTS.issuperset(map(type, data)):
        data = list(map(_text, data))
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": data}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def best_of(array: Any, count: int, labels: tuple[str, ...]) -> Any:
    """The largest values of each row as texts ``value:index``, with ``:label`` where there is one.

    Args:
        array: numbers, rows first.
        count: how many of each row; fewer when there are not so many.
        labels: by index.

    Returns:
        Texts of shape ``[rows, count]``.
    """
    rows = array.reshape(len(array), -1)
    keys = rows.astype(np.float64) if rows.dtype.kind in "fb" else rows
    if keys.dtype.kind == "f":
        # What is no number is worth less than any that is.
        keys = np.where(np.isnan(keys), -np.inf, keys)
    order = np.argsort(keys[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    order = rows.shape[1] - 1 - order
    best = np.empty(order.shape, object)
    named = len(labels) == rows.shape[1]
    for row, indices in enumerate(order.tolist()):
        for place, index in enumerate(indices):
            text = f"{rows[row, index]}:{index}"
            best[row, place] = f"{text}:{labels[index]}" if named else text
    return best


def assembled(content: dict[str, Any], blobs: list[bytes], coding: str) -> bytes | Encoded:
    """The answer's bytes, and what its headers say about them.

    Args:
        content: of the JSON.
        blobs: what follows it.
        coding: that the caller accepts, ``gzip`` or ``deflate``; empty for none.
    """
    body = _encode(content)
    if not blobs and not coding:
        return body
    media_type, headers = JSON, []
    if blobs:
        media_type = MEDIA_TYPE
        # The length of the JSON as it is before the whole is compressed, as clients expect.
        headers.append((LENGTH, b"%d" % len(body)))
        body = b"".join([body, *blobs])
    if coding:
        headers.append((b"vary", b"accept-encoding"))
        # Whoever accepts a coding accepts the plain form as well.
        if COMPRESSED_FROM <= len(body) <= COMPRESSED_TO:
            body = gzip.compress(body, _LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, _LEVEL)
            headers.append((b"content-encoding", coding.encode("ascii")))
    return Encoded(body, media_type, tuple(headers))


@lru_cache(maxsize=64)
def coding_of(accepted: bytes) -> str:
    """The coding to answer in, by the header Accept-Encoding: ``gzip``, ``deflate`` or none."""
    weights: dict[str, float] = {}
    for each in accepted.decode("latin-1").lower().split(",")[:16]:
        name, _, rest = each.partition(";")
        weight = rest.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    known = [(weights[name], name) for name in ("deflate", "gzip") if weights.get(name, 0.0) > 0.0]
    return max(known)[1] if known else ""


def error_body(error: ServableError, _request_id: str) -> bytes:
    """``{"error": message}``."""
    return _encode({"error": error.message})
