"""Reading a table from a file: CSV of any usual dialect and encoding, or Parquet.

CSV columns come as text and get a type here, by rules that a person can follow: a column is numeric
only if every value that is there is a number, and codes with leading zeros stay text. Nothing is
guessed from a part of the file.
"""

import csv
import re
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from servable.artifact.signature import Signature
from servable.errors import DataError, FileMissing, StorageFailed, converted
from servable.protocols.csv_text import MISSING_OTHER, MISSING_TEXT
from servable.training import dialect

#: Whole numbers up to here survive the way through a float64.
LARGEST_EXACT_INT = 2**53
PARQUET_MAGIC = b"PAR1"
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})

_LEADING_ZERO = re.compile(r"[+-]?0\d+\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")


def read_table(path: Path, *, signature: Signature | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file whole.

    Args:
        path: the file; Parquet is known by its ending or its first bytes, all else is read as CSV.
        signature: of the model that the rows are for. Its columns are then typed as it says (a category
            of digits stays text, dates are read), instead of by what this file happens to hold.

    Returns:
        Columns of int64, float64, bool, ``str`` (missing is NaN), object of True/False/None, or datetime.

    Raises:
        FileMissing: there is no such file.
        DataError: unreadable, empty, binary, without column names, with a name twice, or with a row of
            another length than the head; says where.
        StorageFailed: the file cannot be read for lack of permission or an input/output error.
    """
    path = Path(path)
    if not path.exists():
        raise FileMissing(f"There is no file {path}; check the path.")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give one CSV or Parquet file.")
    with converted({OSError: StorageFailed}, f"{path} cannot be read: {{}}."):
        data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path} is empty; it needs a line of column names and rows below it.")
    if path.suffix.lower() in PARQUET_SUFFIXES or data[:4] == PARQUET_MAGIC:
        return _read_parquet(path, data)
    text = _decoded(path, data)
    delimiter = dialect.delimiter(text)
    columns = _parsed(path, text, delimiter)
    fields = {field.name: field for field in (*signature.inputs, *signature.outputs)} if signature else {}
    typed: dict[str, pd.Series[Any]] = {}
    for name, values in columns.items():
        field = fields.get(name)
        if field is None:
            typed[name] = typed_column(values, decimal_comma=delimiter == ";")
        elif field.dtype == "str":
            typed[name] = values.mask(values.isin(list(MISSING_TEXT)))
        elif field.kind == "date":
            moments, _ = dated(values)
            typed[name] = values if moments is None else moments
        else:
            typed[name] = typed_column(values, decimal_comma=delimiter == ";", codes=False)
    return pd.DataFrame(typed)


def _read_parquet(path: Path, data: bytes) -> pd.DataFrame:
    message = f"{path} cannot be read as Parquet ({{}}); is it complete?"
    with converted({pa.ArrowException: DataError, OSError: DataError, ValueError: DataError}, message):
        table = parquet.read_table(BytesIO(data))
        frame: pd.DataFrame = table.to_pandas()
    dialect.check_names(path, [str(name) for name in frame.columns])
    frame.columns = pd.Index([str(name) for name in frame.columns])
    if not len(frame):
        raise DataError(f"{path} has columns and no rows.")
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            frame[name] = frame[name].astype(frame[name].cat.categories.dtype)
    return frame.reset_index(drop=True)


def _decoded(path: Path, data: bytes) -> str:
    """The file as text: by its byte order mark, else UTF-8, else GB 18030 or Windows-1252 by their look."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            with converted(
                {UnicodeError: DataError}, f"{path} is not the {encoding} text that it begins as."
            ):
                return data.decode(encoding)
    if b"\x00" in data:
        raise DataError(f"{path} is a binary file; give a CSV file or a Parquet file (ending .parquet).")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    control = sum(data[:65536].count(byte) for byte in (*range(1, 9), *range(14, 27)))
    if control > len(data[:65536]) // 200:
        raise DataError(f"{path} is a binary file; give a CSV file or a Parquet file (ending .parquet).")
    # Chinese text in GB encodings has its high bytes in pairs, Western text mostly alone.
    runs = Counter(len(run) % 2 for run in re.findall(rb"[\x81-\xfe]+", data[:1_000_000]))
    if runs[0] > 9 * runs[1]:
        try:
            return data.decode("gb18030")
        except UnicodeDecodeError:
            pass
    return data.decode("cp1252", errors="replace")


def _parsed(path: Path, text: str, delimiter: str) -> dict[str, "pd.Series[Any]"]:
    """All columns as text, every row checked to be as long as the head."""
    names, _ = dialect.header(path, text, delimiter)
    bad: list[Any] = []

    def remember(row: Any) -> str:
        bad.append(row)
        return "skip"

    if text.count('"') % 2:
        raise DataError(f"{path} has a quotation mark that is never closed; it may be cut off.")
    if len(names) == 1:
        return _single_column(names[0], text)
    with converted({pa.ArrowException: DataError}, f"{path} cannot be read as CSV: {{}}"):
        table = arrow_csv.read_csv(
            BytesIO(text.encode("utf-8", errors="replace")),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=names, skip_rows_after_names=1, block_size=1 << 26
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    if bad:
        row = bad[0]
        more = f" ({len(bad)} rows are like this)" if len(bad) > 1 else ""
        where = (
            f"row {row.number} (the names are row 1)"
            if row.number
            else f"the row that begins {row.text[:40]!r}"
        )
        raise DataError(
            f"{path}, {where}: {row.actual_columns} fields for {row.expected_columns} names{more}; "
            f"a field that holds {delimiter!r} must be quoted."
        )
    frame = table.to_pandas()
    return {name: frame[name] for name in names}


def _single_column(name: str, text: str) -> dict[str, "pd.Series[Any]"]:
    rows = [row[0] if row else "" for row in csv.reader(text.splitlines(keepends=True), delimiter="\x1f")][1:]
    return {name: pd.Series(rows, dtype="str")}


def typed_column(
    values: "pd.Series[Any]", *, decimal_comma: bool = False, codes: bool = True
) -> "pd.Series[Any]":
    """A column of text as numbers, booleans or text with NaN for missing.

    Args:
        values: text without nulls.
        decimal_comma: whether ``3,14`` may be a number (files that are cut at semicolons).
        codes: whether leading zeros keep a column text.
    """
    text = values.mask(values.isin(list(MISSING_TEXT)))
    there = values[~values.isin(list(MISSING_OTHER))].str.strip()
    if not len(there):
        return text
    if set(there.iloc[:100].str.lower()) <= {"true", "false"} and set(there.str.lower()) <= {"true", "false"}:
        flags = there.str.lower().eq("true")
        return flags.astype(bool) if len(flags) == len(values) else flags.astype(object).reindex(values.index)
    if decimal_comma and _all_match(there, _DECIMAL_COMMA):
        there = there.str.replace(",", ".", regex=False)
    if pd.to_numeric(there.iloc[:100], errors="coerce").isna().any():
        return text
    if (
        codes
        and there.str.startswith(("0", "-0", "+0")).any()
        and there.str.fullmatch(_LEADING_ZERO.pattern).any()
    ):
        return text
    numbers = pd.to_numeric(there, errors="coerce")
    if numbers.isna().any() or numbers.dtype == object:
        return text
    if numbers.dtype.kind in "iu":
        if len(numbers) and np.abs(numbers.to_numpy(dtype="float64")).max() >= LARGEST_EXACT_INT:
            return text
        return (
            numbers.astype("int64")
            if len(numbers) == len(values)
            else numbers.astype("float64").reindex(values.index)
        )
    return numbers.astype("float64").reindex(values.index)


def _all_match(values: "pd.Series[Any]", pattern: re.Pattern[str]) -> bool:
    return bool(values.iloc[:100].str.fullmatch(pattern.pattern).all()) and bool(
        values.str.fullmatch(pattern.pattern).all()
    )


def dated(values: "pd.Series[Any]") -> "tuple[pd.Series[Any] | None, str]":
    """A column of text as UTC datetimes if every value that is there is a date, and the form that fits.

    Returns:
        Naive datetimes in UTC with NaT for missing, and the format; None and "" when it is not a date column.
    """
    missing = values.isna() | values.isin(list(MISSING_OTHER))
    there = values[~missing].astype(str).str.strip()
    if not len(there):
        return None, ""
    # A bare number such as 2024 would pass as an ISO year; a date has at least two separators or a T.
    if not there.iloc[:100].str.contains(r"\d[-/.T]\d", regex=True).all():
        return None, ""
    for form in ("ISO8601", *dialect.DATE_FORMS):
        if pd.to_datetime(there.iloc[:50], format=form, errors="coerce", utc=True).isna().any():
            continue
        moments = pd.to_datetime(there, format=form, errors="coerce", utc=True)
        if not moments.isna().any():
            return moments.dt.tz_localize(None).reindex(values.index), form
    return None, ""
