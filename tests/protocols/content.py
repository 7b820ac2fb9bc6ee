"""Rows of one signature in every content type, and hostile bodies of each."""

import csv
import io
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from servable.artifact.signature import Field, Signature
from servable.protocols.answer_forms import ARROW, CSV, LINES, MSGPACK, PARQUET
from servable.protocols.base import Codec, CodecLimits
from servable.protocols.codecs import FORM, JSON, Reads, native_codecs

TABLE = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
        Field(name="member", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime", missing=True),
        Field(name="note, long", kind="text", dtype="str", missing=True),
        Field(name="visits", kind="number", dtype="int64"),
    ),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
    probabilities=True,
)
TENSOR = Signature(
    task="transform",
    inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(2, 3)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(2,)),),
)
FREE = Signature(
    task="regression",
    inputs=(Field(name="x", kind="tensor", dtype="float64", shape=(-1,)),),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
BYTES = Signature(
    task="regression",
    inputs=(Field(name="file", kind="tensor", dtype="uint8", shape=(-1,)),),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
ROWS: list[dict[str, Any]] = [
    {"age": None, "plan": "pro", "member": True, "since": "2026-01-31T10:00:00", "note, long": 'a "b",\nc',
     "visits": 3},
    {"age": 1.5, "plan": "basic", "member": False, "since": None, "note, long": None, "visits": -7},
]  # fmt: skip
BOUNDARY = b"limit"
FORM_HEAD = {b"content-type": b"multipart/form-data; boundary=" + BOUNDARY}


def codec(signature: Signature, media_type: str, limits: CodecLimits = CodecLimits()) -> Codec:  # noqa: B008 - immutable
    """The codec of a content type."""
    ready = native_codecs(signature, max_rows=limits.max_rows, max_depth=limits.max_depth)
    return ready.get(media_type) or Reads(media_type)(signature, limits)


def stream(table: Any, **options: Any) -> bytes:
    """An Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def file(table: Any, **options: Any) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def records(rows: list[dict[str, Any]], *, header: bool = True, order: list[str] | None = None) -> bytes:
    """Records of CSV as Python writes them."""
    names = order or list(rows[0])
    sink = io.StringIO()
    writer = csv.writer(sink)
    if header:
        writer.writerow(names)
    for row in rows:
        writer.writerow(["" if row[name] is None else row[name] for name in names])
    return sink.getvalue().encode()


def form(parts: list[tuple[str, str | None, str | None, bytes]]) -> bytes:
    """A form of parts of name, file name, content type and content."""
    body = b""
    for name, filename, media_type, content in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        typed = f"\r\nContent-Type: {media_type}" if media_type else ""
        head = f'Content-Disposition: form-data; name="{name}"{named}{typed}\r\n\r\n'
        body += b"--" + BOUNDARY + b"\r\n" + head.encode() + content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


def fields(row: dict[str, Any]) -> bytes:
    """A form with the columns of one row."""
    texts = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in row.items()
    }
    return form([(name, None, None, text.encode()) for name, text in texts.items()])


def in_all_types(rows: list[dict[str, Any]]) -> dict[str, list[bytes]]:
    """The same rows in every content type that holds several."""
    table = pa.Table.from_pylist(rows)
    reversed_names = list(reversed(rows[0]))
    coded = table.set_column(1, "plan", table.column("plan").dictionary_encode())
    return {
        JSON: [msgspec.json.encode({"inputs": rows})],
        LINES: [b"\n".join(map(msgspec.json.encode, rows)),
                b"\r\n".join(msgspec.json.encode({"input": row}) for row in rows) + b"\r\n\r\n",
                b"\n\n".join(msgspec.json.encode(list(row.values())) for row in rows)],
        CSV: [records(rows), records(rows, order=reversed_names), records(rows, header=False),
              b"\xef\xbb\xbf" + records(rows), records([{**row, "more": 1} for row in rows])],
        ARROW: [stream(table), stream(coded), stream(table, compression="zstd"),
                stream(coded, compression="lz4"), stream(table.select(reversed_names))],
        PARQUET: [file(table), file(table, compression="zstd", data_page_version="2.0"),
                  file(table, compression="none", use_dictionary=False), file(coded, row_group_size=1),
                  file(table.append_column("more", pa.array([[1, 2]] * len(rows))))],
        MSGPACK: [msgspec.msgpack.encode({"inputs": rows}),
                  msgspec.msgpack.encode({"inputs": [list(row.values()) for row in rows]})],
    }  # fmt: skip


TENSOR_ROWS = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[0.0, 0.5, 0.0], [0.0, -1.0, 0.0]]]


def tensors_in_all_types() -> dict[str, bytes]:
    """Two rows for ``TENSOR`` in every content type that holds them."""
    table = pa.table({"x": pa.array(TENSOR_ROWS, pa.list_(pa.list_(pa.float32())))})
    return {
        JSON: msgspec.json.encode({"inputs": TENSOR_ROWS}),
        LINES: b"\n".join(map(msgspec.json.encode, TENSOR_ROWS)),
        ARROW: stream(table),
        PARQUET: file(table),
        MSGPACK: msgspec.msgpack.encode({"inputs": TENSOR_ROWS}),
        FORM: form([("f", "rows.json", "", msgspec.json.encode({"inputs": TENSOR_ROWS}))]),
    }


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether packed arrays are the same, NaN being NaN."""
    return set(one) == set(other) and all(
        array.dtype == other[name].dtype
        and np.array_equal(array, other[name], equal_nan=array.dtype.kind == "f")
        for name, array in one.items()
    )
