"""Requests and their answers as rows of a segment: one column a field, as far as the signature allows it.

A field is kept, hashed, dropped, or kept to be sealed (``Field.captured``). A hash is an HMAC-SHA256 under a
key that lies in the home, cut to 128 bits: equal values stay equal, and nobody without the key can try out
what they were.
"""

import hmac
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.personal import subject_header
from servable.artifact.signature import Capture, Field, Signature
from servable.monitoring.capture_pages import Columns, Page
from servable.monitoring.capture_scope import Taken, output_rules
from servable.monitoring.labels import label_text
from servable.monitoring.metrics import OK
from servable.tensors import NUMBERS, PREDICTION, STRINGS, Arrays

#: Most requests that do not look alike of which a table is made at once.
_MOST_AT_ONCE = 2_000
#: The column that says whom a row is about, in clear; it never reaches a segment.
ABOUT = "\0about"
#: Letters of a hash.
_HASH_LETTERS = 32


class _Head(NamedTuple):
    """What a table says of each request, in columns; see ``Taken``. Codes are an Arrow array."""

    ids: Sequence[str]
    rows: Sequence[int]
    codes: Any
    seconds: Sequence[float]
    at: Sequence[float]
    places: Sequence[Sequence[int] | None] = ()
    about: Sequence[str] = ()


class PredictionTable:
    """Makes tables of what was captured of one version. Safe to share between threads.

    Args:
        signature: of the version.
        version: its number.
        key: of the hashes.
        pause: called again and again between two steps, each of which may hold the interpreter for tenths of
            a millisecond.
        subject: the input, or the header as ``header:NAME``, that says whom a row is about; empty for none.
            With one there is a column ``ABOUT``.
    """

    def __init__(
        self,
        signature: Signature,
        version: int,
        key: bytes,
        pause: Callable[[], None] = lambda: None,
        subject: str = "",
    ) -> None:
        self._signature = signature
        self._version = version
        self._hash = hasher(key)
        self._pause = pause
        self.subject = subject
        self._header = subject_header(subject)
        self._rules = output_rules(signature)
        self._labels = [label_text(label) for label in signature.classes]

    def of(self, page: Page) -> Any:
        """A ``pyarrow.Table`` with a row for every row of a page, which has at least one.

        Requests stand in the order in which they were over.
        """
        import pyarrow as pa

        others = range(0, len(page.others), _MOST_AT_ONCE)
        parts = [self._others(page.others[start : start + _MOST_AT_ONCE], page.share) for start in others]
        if page.columns is None or not page.columns.rows:
            return pa.concat_tables(parts, promote_options="permissive")
        alike = self._alike(page.columns, page.share)
        if not parts:
            return alike
        return pa.concat_tables([alike, *parts], promote_options="permissive").sort_by("at")

    def _alike(self, columns: Columns, share: float) -> Any:
        import pyarrow as pa

        ids = columns.ids
        codes = pa.repeat(OK, len(ids))
        head = _Head(ids, columns.counts, codes, columns.seconds, columns.at, about=columns.about)
        self._pause()
        # To what makes columns, all of it is one request of many rows.
        counts = np.array([columns.rows])
        inputs, outputs = self._inputs([columns.inputs()], counts), self._outputs([columns.outputs()], counts)
        return self._table(head, share, inputs, outputs)

    def _others(self, taken: Sequence[Taken], share: float) -> Any:
        import pyarrow as pa

        arrays, rows, ids, answers, codes, seconds, at, _, places, about = zip(*taken, strict=True)
        counts = np.array(rows, np.int64)
        head = _Head(ids, rows, pa.array(codes, pa.string()), seconds, at, places, about)
        return self._table(head, share, self._inputs(arrays, counts), self._outputs(answers, counts))

    def _table(self, head: _Head, share: float, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
        import pyarrow as pa

        ids, rows, codes, seconds, at, places, about = head
        counts = np.array(rows, np.int64)
        place = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(len(place)) - (np.cumsum(counts) - counts)[place]
        starts = 0
        for count, given in zip(rows, places, strict=False):
            if given is not None:
                row[starts : starts + count] = given
            starts += count

        def each(values: Any) -> Any:
            self._pause()
            return values if len(place) == len(counts) else values.take(pa.array(place))

        told = {}
        if self._header:
            told[ABOUT] = each(pa.array([text or None for text in about], pa.string()))
        moments = np.round(np.array(at) * 1e6).astype(np.int64)
        return pa.table(
            {
                "request_id": each(pa.array(ids, pa.string())),
                "row": pa.array(row.astype(np.int32)),
                "at": each(pa.array(moments, pa.timestamp("us", "UTC"))),
                "version": pa.array(np.full(len(place), self._version, np.int32)),
                "code": each(codes),
                "seconds": each(pa.array(np.array(seconds, np.float64))),
                **told,
                **inputs,
                **outputs,
                "sampled": pa.array(np.full(len(place), share)),
            }
        )

    def _inputs(self, arrays: Sequence[Arrays], counts: NDArray[np.int64]) -> dict[str, Any]:
        import pyarrow as pa

        made: dict[str, Any] = {}
        for name, read in ((NUMBERS, _numbers), (STRINGS, _texts)):
            fields = self._signature.packed(name)
            if not fields:
                continue
            block = np.concatenate([each[name] for each in arrays])
            for place, field in enumerate(fields):
                if field.name == self.subject:
                    made[ABOUT] = _as_text(read(field, block[:, place]))
                if field.captured != "drop":
                    self._pause()
                    made[field.name] = self._guarded(read(field, block[:, place]), field.captured)
        for field in self._signature.inputs:
            if field.is_tensor and field.captured != "drop":
                self._pause()
                made[field.name] = self._tensor(
                    [each.get(field.name) for each in arrays], counts, field.captured
                )
        told = {}
        if self.subject and not self._header:
            # A version without that input has rows that are about nobody known, and sealed all the same.
            told[ABOUT] = made.get(ABOUT, pa.nulls(int(counts.sum()), pa.string()))
        return told | {
            f"in.{field.name}": made[field.name] for field in self._signature.inputs if field.name in made
        }

    def _outputs(self, answers: Sequence[Arrays | None], counts: NDArray[np.int64]) -> dict[str, Any]:
        import pyarrow as pa

        made: dict[str, Any] = {}
        names = dict.fromkeys(chain.from_iterable(each for each in answers if each is not None))
        for name in names:
            how = self._rules.get(name, "keep")
            if how == "drop":
                continue
            self._pause()
            parts = [None if each is None else each.get(name) for each in answers]
            if name == PREDICTION and self._labels:
                labels = list(map(self._hash, self._labels)) if how == "hash" else self._labels
                made[f"out.{name}"] = pa.array(labels, pa.string()).take(column_of(parts, counts))
            else:
                made[f"out.{name}"] = self._tensor(parts, counts, how)
        return made

    def _tensor(self, parts: Sequence[Any], counts: NDArray[np.int64], how: Capture) -> Any:
        """Arrays of several requests as one column; where there is None the rows are null."""
        if how == "hash":
            parts = [None if part is None else self._hashed_rows(part) for part in parts]
        return column_of(parts, counts)

    def _hashed_rows(self, part: NDArray[Any]) -> NDArray[Any]:
        flat = part.reshape(len(part), -1)
        if flat.dtype == object:
            texts = ["\0".join(map(str, row)) if flat.shape[1] > 1 else row[0] for row in flat.tolist()]
        else:
            texts = [row.tobytes() for row in np.ascontiguousarray(flat)]
        made = np.empty(len(texts), object)
        made[:] = [self._hash(text) for text in texts]
        return made

    def _guarded(self, column: Any, how: Capture) -> Any:
        """A column as it may be kept."""
        import pyarrow as pa

        if how != "hash":
            return column
        coded = column.dictionary_encode()
        hashes = [self._hash(label_text(value)) for value in coded.dictionary.to_pylist()]
        return pa.array(hashes, pa.string()).take(coded.indices)


def sealed_names(signature: Signature, names: Iterable[str], whole: bool) -> tuple[str, ...]:
    """Which columns of a table are to be sealed.

    Args:
        signature: of the version.
        names: the columns of the table.
        whole: whether all that a row says of its caller is, and not only what is to be encrypted.
    """
    if whole:
        return tuple(name for name in names if name == "request_id" or name.startswith(("in.", "out.")))
    chosen = {f"in.{field.name}" for field in signature.inputs if field.captured == "encrypt"}
    chosen |= {f"out.{name}" for name, how in output_rules(signature).items() if how == "encrypt"}
    return tuple(name for name in names if name in chosen)


def _as_text(column: Any) -> Any:
    """A column as labels; null where there is no value."""
    import pyarrow as pa

    coded = column.dictionary_encode()
    return pa.array([label_text(value) for value in coded.dictionary.to_pylist()], pa.string()).take(
        coded.indices
    )


def hasher(key: bytes) -> Callable[[str | bytes], str]:
    """The keyed hash of a value, in hexadecimal."""

    def hashed(value: str | bytes) -> str:
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return hmac.digest(key, data, "sha256").hex()[:_HASH_LETTERS]

    return hashed


def column_of(parts: Sequence[Any], counts: NDArray[np.int64]) -> Any:
    """Arrays ``[rows, ...]`` one after the other as one column: of plain values, or of lists for more axes.

    Args:
        parts: the arrays; None for requests that have none.
        counts: the rows of each request.
    """
    import pyarrow as pa

    there = [part for part in parts if part is not None]
    if not there:
        return pa.nulls(int(counts.sum()))
    missing = np.zeros(int(counts.sum()), bool)
    if len(there) < len(parts):
        missing = np.repeat([part is None for part in parts], counts)
    # Nearly always all requests have one form, and then nothing is done for each of them.
    forms = {part.shape[1:] for part in there}
    if forms == {()}:
        values = _values(np.concatenate(there))
        if len(there) == len(parts):
            return values
        return values.take(pa.array(np.cumsum(~missing) - 1, mask=missing))
    lengths = np.zeros(len(missing), np.int32)
    if len(forms) == 1:
        flat = np.concatenate(there).reshape(-1)
        lengths[~missing] = math.prod(next(iter(forms)))
    else:
        flat = np.concatenate([part.ravel() for part in there])
        widths = [math.prod(part.shape[1:]) for part in there]
        lengths[~missing] = np.repeat(widths, [len(part) for part in there])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = _values(flat, missing=False)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(missing))


def _values(values: NDArray[Any], missing: bool = True) -> Any:
    """Plain values; NaN is null where values may be missing."""
    import pyarrow as pa

    if values.dtype == object or values.dtype.kind in "US":
        return pa.array(values.tolist(), pa.string())
    if values.dtype.kind == "f" or values.dtype.kind not in "biu":
        # Half precision, and the types that other libraries add to numpy, have few readers.
        return pa.array(values.astype(np.float64), from_pandas=missing)
    return pa.array(values)


def _numbers(field: Field, values: NDArray[np.float64]) -> Any:
    """A packed column of numbers in its own type; what is missing is null."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    missing = ~np.isfinite(values) if field.dtype != "float64" else np.isnan(values)
    if field.dtype == "bool":
        made = pa.array(values == 1, mask=missing)
    elif field.dtype == "datetime":
        made = pa.array(_whole(values * 1e6, missing), mask=missing).cast(pa.timestamp("us", "UTC"))
    elif field.dtype == "int64" or (
        field.kind == "category" and bool((_whole(values, missing) == values)[~missing].all())
    ):
        made = pa.array(_whole(values, missing), mask=missing)
    else:
        made = pa.array(values, mask=missing)
    return made.cast(pa.string()) if field.kind == "category" else made


def _whole(values: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Whole numbers, 0 where there is none."""
    return np.where(missing | (np.abs(values) >= 2.0**63), 0, values).astype(np.int64)


def _texts(_field: Field, values: NDArray[Any]) -> Any:
    """A packed column of texts; the empty one is null."""
    import pyarrow as pa

    return pa.array([text or None for text in values.tolist()], pa.string())
