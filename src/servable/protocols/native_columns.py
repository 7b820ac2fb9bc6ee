"""Arrow and Parquet: whole columns in, read without work for each row.

What a body declares - rows, sizes of what it unfolds to - is looked at before anything is unpacked, so
that a small body never becomes a large table. pyarrow is imported by the first body.
"""

from collections.abc import Callable
from typing import Any

from servable.artifact.signature import Signature
from servable.errors import (
    DependencyMissing,
    FieldProblem,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
)
from servable.protocols import arrow_outline, parquet_outline
from servable.protocols.base import NO_HEAD, CodecLimits, Head, Heavy
from servable.protocols.columns import ColumnReader, need_arrow
from servable.protocols.native import NativeAnswer
from servable.protocols.native_schema import joined
from servable.tensors import Body, Request

_DEEPEST = 8
#: Most columns of a table.
_MOST_COLUMNS = 100_000
_STRING_LIMIT, _CONTAINER_LIMIT = 16 * 1024 * 1024, 1_000_000


def arrow_or_unsupported() -> None:
    """Make sure that pyarrow is there.

    Raises:
        MediaTypeUnsupported: it is not; the message names the extra.
    """
    try:
        need_arrow()
    except DependencyMissing as missing:
        raise MediaTypeUnsupported(missing.message) from missing


class _ColumnsCodec(NativeAnswer, Heavy):
    """What both formats share.

    Args:
        signature: what the model takes and gives.
        limits: most rows, and most bytes of unpacked values.
    """

    _called = ""

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature)
        self._limits = limits
        self._reader = ColumnReader(signature, limits.max_rows)
        self._names = frozenset(field.name for field in signature.inputs)

    def heavy(self, body: Body, head: Head) -> bool:
        """Always: how much a body unfolds to does not show in its size."""
        return True

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not of this format, cut short or damaged.
            RequestInvalid: the values do not fit; every problem is named as ``age[17]``, rows from 0.
            RequestTooLarge: more rows, columns or unpacked bytes than allowed.
            MediaTypeUnsupported: pyarrow is not installed.
        """
        arrow_or_unsupported()
        table = self._guarded(lambda: self._table(body))
        return Request(self._reader.read(table), table.num_rows, request_id, False)

    def _table(self, body: Body) -> Any:
        raise NotImplementedError

    def _guarded(self, read: Callable[[], Any]) -> Any:
        """What pyarrow reads, checked to the last value; whatever it says is ours."""
        import pyarrow as pa

        try:
            table = read()
            table.validate(full=True)
            self._check_unfolded(table)
        except (RequestMalformed, RequestInvalid, RequestTooLarge):
            raise
        except MemoryError as error:
            raise self._too_large() from error
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise RequestMalformed(
                f"The body is no whole {self._called}; send the bytes as they were written."
            ) from error
        return table

    def _check_unfolded(self, table: Any) -> None:
        """Refuse columns that become larger when they lose their dictionaries, and odd ones."""
        import pyarrow as pa
        import pyarrow.compute as pc

        size = 0
        for place, field in enumerate(table.schema):
            if field.name not in self._names:
                continue
            if _is_odd(field.type):
                expected = "a column of numbers, texts, dates or lists of them"
                raise RequestInvalid(
                    [FieldProblem(joined("", field.name).lstrip("."), expected, f"one of {field.type}"[:80])]
                )
            for chunk in table.column(place).chunks:
                if pa.types.is_dictionary(field.type):
                    words = chunk.dictionary
                    if _is_text(words.type):
                        lengths = pc.binary_length(words).cast(pa.int64())
                        size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
                elif pa.types.is_string_view(field.type):
                    size += pc.sum(pc.binary_length(chunk).cast(pa.int64())).as_py() or 0
        if size > self._limits.max_bytes:
            raise self._too_large()

    def _check_rows(self, rows: int) -> None:
        if rows > self._limits.max_rows:
            raise RequestTooLarge(
                f"The request holds {rows} rows and {self._limits.max_rows} are allowed; "
                "send them in several requests."
            )

    def _check_bytes(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise self._too_large()

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"The body unfolds to more than the {self._limits.max_bytes} bytes that are allowed; "
            "send fewer rows at once."
        )


class ArrowCodec(_ColumnsCodec):
    """``application/vnd.apache.arrow.stream``. Immutable and safe to share."""

    _called = "Arrow IPC stream"

    def _table(self, body: Body) -> Any:
        import pyarrow as pa

        rows = size = 0
        for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
            outline = arrow_outline.outline_of(memoryview(message.metadata), message.body)
            if outline is not None:
                rows += 0 if outline.dictionary else outline.rows
                size += outline.size
                self._check_rows(rows)
                self._check_bytes(size)
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.BufferReader(body), options=options) as stream:
            names = stream.schema.names
            if len(names) > _MOST_COLUMNS:
                raise RequestTooLarge(
                    f"The table has more than the {_MOST_COLUMNS} columns that are allowed."
                )
            return stream.read_all()


class ParquetCodec(_ColumnsCodec):
    """``application/vnd.apache.parquet``. Immutable and safe to share."""

    _called = "Parquet file"

    def _table(self, body: Body) -> Any:
        outline = parquet_outline.outline_of(memoryview(body))
        self._check_rows(outline.rows)
        self._check_bytes(outline.size)
        with self._opened(body, []) as file:
            schema = file.schema_arrow
        # All of them when one is absent, so that a name that is close to it can be told.
        known = sorted(self._names) if self._names.issubset(schema.names) else None
        # Texts that repeat stay a dictionary, so that what they unfold to is known before they do.
        texts = [field.name for field in schema if _is_text(field.type)]
        with self._opened(body, texts) as file:
            return file.read(columns=known, use_threads=False)

    def _opened(self, body: Body, dictionaries: list[str]) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        return parquet.ParquetFile(
            pa.BufferReader(body),
            read_dictionary=dictionaries,
            thrift_string_size_limit=_STRING_LIMIT,
            thrift_container_size_limit=_CONTAINER_LIMIT,
            pre_buffer=False,
        )


def _too_wide() -> RequestTooLarge:
    return RequestTooLarge(f"The table has more than the {_MOST_COLUMNS} columns that are allowed.")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_odd(kind: Any, levels: int = _DEEPEST) -> bool:
    """Whether a type is nested in ways that no signature knows, or has values that take no memory."""
    import pyarrow as pa

    if not levels:
        return True
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.types.is_null(kind.value_type) or _is_odd(kind.value_type, levels - 1)
    if pa.types.is_dictionary(kind):
        return levels < _DEEPEST or _is_odd(kind.value_type, levels - 1)
    return bool(pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind))
