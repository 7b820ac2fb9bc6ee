"""Rows to be looked at for drift: those of a file, answered now, or those that servers captured."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.package import Package
from servable.artifact.profile import comparable
from servable.artifact.signature import Field, Signature
from servable.errors import DataError
from servable.monitoring.captured_arrays import captured_arrays
from servable.monitoring.drift import Observed
from servable.monitoring.joined import Traffic, joined
from servable.monitoring.labels import label_text
from servable.monitoring.reference import ERROR, PREDICTION, PROBABILITY, RIGHT, WRONG, Key, Reference
from servable.monitoring.vectors import Vectors
from servable.progress import Progress
from servable.protocols.files import lone_file
from servable.tensors import MISSING_STRING, NUMBERS, PROBABILITIES, STRINGS, Arrays, take
from servable.tensors import PREDICTION as ANSWERS
from servable.workflows.answered_sample import arrays_of
from servable.workflows.answering import answers
from servable.workflows.sources import table_of

if TYPE_CHECKING:
    import pandas as pd

#: Rows answered in one run.
_CHUNK_ROWS = 10_000
#: More captured rows than this are thinned evenly.
MOST_ROWS = 1_000_000


class Found(NamedTuple):
    """Rows, and what must be said about them.

    Attributes:
        observed: the rows, in order of time.
        arrays: whole arrays that the model took and gave; empty for tables with labels or single numbers.
        source: where they came from, for people.
        notes: sentences.
    """

    observed: Observed
    arrays: Mapping[Key, Vectors]
    source: str
    notes: tuple[str, ...] = ()


def from_data(
    package: Package,
    references: tuple[Reference, ...],
    data: "str | Path | pd.DataFrame",
    *,
    target: str | None,
    time: str | None,
    progress: Progress,
) -> Found:
    """The rows of a table, answered by the version.

    Args:
        package: of the version.
        references: what is compared; columns that training left out are read for their sake.
        data: a CSV or Parquet file, or a DataFrame, in order of time; for a model of pictures or sounds,
            what ``evaluate`` takes.
        target: the column with the right answers, if it is not named as the model's answer; where the
            table has none, quality is not looked at.
        time: a column that says when a row came; rows are put in its order.
        progress: told of every stage.

    Raises:
        FileMissing: there is no such file.
        DataError: it cannot be read, or does not fit the model.
        DependencyMissing: the extra ``train`` is not installed.
    """
    from servable.frameworks.frame import pack

    signature = package.signature
    progress.begin("Read the data")
    if isinstance(data, str | Path) and lone_file(signature) is not None:
        return _from_files(package, Path(data), target, progress)
    frame, source = table_of(data, signature)
    frame, at = _in_order(frame, time)
    if not len(frame):
        raise DataError(f"{source['data']} has no rows.")
    arrays = pack(frame, signature)
    progress.done(f"{len(frame):,} rows")
    progress.begin("Answer all rows", total=len(frame))
    given = answers(package, lambda where: take(arrays, where), len(frame), _CHUNK_ROWS, progress)
    progress.done()
    columns = inputs_of(signature, arrays) | _unused(frame, references)
    truth = _truth(frame, target, signature)
    columns |= outputs_of(signature, given.get(ANSWERS), given.get(PROBABILITIES), truth)
    return Found(
        Observed(len(frame), columns, at), whole_arrays(signature, arrays, given), str(source["data"])
    )


def _from_files(package: Package, data: Path, target: str | None, progress: Progress) -> Found:
    """Labelled pictures or sounds. Those of folders have no order, so they are taken in any."""
    from servable.workflows.labelled import labelled

    signature = package.signature
    rows = labelled(data, package.manifest.model, signature, target)
    arrays = rows.part(slice(None))
    truth = np.asarray(rows.truth)
    if data.is_dir():
        order = np.random.default_rng(0).permutation(rows.size)
        arrays, truth = take(arrays, order), truth[order]
    progress.done(f"{rows.size:,} files")
    progress.begin("Answer all rows", total=rows.size)
    given = answers(package, lambda where: take(arrays, where), rows.size, rows.chunk_rows, progress)
    progress.done()
    known = truth.astype(np.float64)
    if signature.task == "classification":
        known = np.asarray([label_text(label) for label in signature.classes], object)[truth.astype(np.int64)]
    columns = outputs_of(signature, given.get(ANSWERS), given.get(PROBABILITIES), known)
    return Found(Observed(rows.size, columns), whole_arrays(signature, arrays, given), data.name)


def whole_arrays(signature: Signature, taken: Arrays, given: Arrays) -> dict[Key, Vectors]:
    """The whole arrays of numbers among what a model took and gave, row for row."""
    inputs = {field.name: taken[field.name] for field in signature.inputs if field.is_tensor}
    found = {Key("input", name): array for name, array in inputs.items() if array.dtype.kind in "biuf"}
    kept = {name: array for name, array in arrays_of(given).items() if name != PROBABILITIES}
    found |= {Key("output", name): array for name, array in kept.items()}
    return {key: Vectors(np.arange(len(array)), array) for key, array in found.items()}


def _in_order(frame: "pd.DataFrame", time: str | None) -> "tuple[pd.DataFrame, NDArray[np.float64] | None]":
    """The rows in order of time, and when each one came."""
    if time is None:
        return frame, None
    from servable.frameworks.frame import column_numbers

    if time not in frame.columns:
        raise DataError(f"The data has no column {time!r} that could say when a row came.")
    at = column_numbers(frame[time], Field(name=time, kind="date", dtype="datetime"))
    order = np.argsort(at, kind="stable")
    return frame.iloc[order], at[order]


def inputs_of(signature: Signature, arrays: Arrays) -> dict[Key, NDArray[Any]]:
    """The packed columns of a table, by name, in the form in which they are compared."""
    found: dict[Key, NDArray[Any]] = {}
    for array in (NUMBERS, STRINGS):
        for place, field in enumerate(signature.packed(array)):
            found[Key("input", field.name)] = comparable(field, arrays[array][:, place])
    return found


def outputs_of(
    signature: Signature, prediction: Any, probabilities: Any, truth: NDArray[Any] | None
) -> dict[Key, NDArray[Any]]:
    """What was answered, how sure that was and how wrong.

    Args:
        signature: of the model.
        prediction: class index or value ``[rows]``; None where there is none.
        probabilities: float ``[rows, classes]`` or None.
        truth: object (str) for a classifier, float64 for a regressor, "" or NaN where it is not known; None
            where nobody knows any.
    """
    if prediction is None or signature.task == "transform" or np.ndim(prediction) != 1:
        return {}
    found: dict[Key, NDArray[Any]] = {}
    if signature.task == "regression":
        values = np.asarray(prediction, np.float64)
        found[Key("output", PREDICTION)] = values
        if truth is not None:
            found[Key("quality", ERROR)] = np.abs(truth.astype(np.float64) - values)
        return found
    labels = np.asarray([label_text(label) for label in signature.classes], object)
    indexes = np.asarray(prediction, np.int64)
    named = labels[indexes] if len(labels) else indexes.astype(str).astype(object)
    found[Key("output", PREDICTION)] = named
    if probabilities is not None:
        found[Key("output", PROBABILITY)] = _surety(np.asarray(probabilities, np.float64))
    if truth is not None and len(labels):
        found[Key("quality", ERROR)] = judged(named, truth)
    return found


def judged(named: NDArray[Any], truth: NDArray[Any]) -> NDArray[Any]:
    """Whether answers were right, object (str), "" where the truth is not known."""
    verdict = np.where(named == truth, RIGHT, WRONG).astype(object)
    verdict[(truth == MISSING_STRING) | (named == MISSING_STRING)] = MISSING_STRING
    return verdict


def _surety(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the evaluation counts it: of the second of two classes, else of the answer."""
    chosen = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)
    surety: NDArray[np.float64] = chosen
    return surety


def _unused(frame: "pd.DataFrame", references: tuple[Reference, ...]) -> dict[Key, NDArray[Any]]:
    """The columns that training left out because they never varied, as far as the data has them."""
    import pandas as pd

    found: dict[Key, NDArray[Any]] = {}
    for reference in references:
        name = reference.key.name
        if reference.key.side != "unused" or name not in frame.columns:
            continue
        column = frame[name]
        if reference.kind == "number":
            numbers = pd.to_numeric(column, errors="coerce")
            found[reference.key] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            found[reference.key] = _texts(column.tolist())
    return found


def _texts(values: list[Any]) -> NDArray[Any]:
    """Values as text, "" where one is missing."""
    made = np.empty(len(values), object)
    made[:] = [MISSING_STRING if value is None or value != value else label_text(value) for value in values]
    return made


def _truth(frame: "pd.DataFrame", target: str | None, signature: Signature) -> NDArray[Any] | None:
    name = target or signature.answer.name
    if name not in frame.columns:
        if target is not None:
            raise DataError(f"The data has no column {target!r} with the right answers.")
        return None
    if signature.task == "regression":
        from servable.frameworks.frame import column_numbers

        return column_numbers(frame[name], Field(name=name, kind="number", dtype="float64", missing=True))
    return _texts(frame[name].tolist())


def from_traffic(
    traffic: Traffic, model: str, version: int, signature: Signature, since: datetime | None
) -> Found:
    """The rows that servers captured of a version, with the labels that came back.

    Args:
        traffic: of the home.
        model: the name.
        version: the number.
        signature: of the version.
        since: rows from here on (aware); None for all.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: a segment cannot be read.
    """
    from pyarrow import compute

    table = joined(traffic, model, since)
    if not table.num_rows:
        return Found(Observed(0, {}), {}, "captured traffic")
    table = table.filter(
        compute.and_(compute.equal(table["version"], version), compute.equal(table["code"], "ok"))
    )
    rows, notes = table.num_rows, []
    if rows > MOST_ROWS:
        step = -(-rows // MOST_ROWS)
        table = table.take(np.arange(0, rows, step))
        notes.append(f"Of {rows:,} captured rows every {step}th was looked at")
    names = frozenset(table.column_names)
    columns: dict[Key, NDArray[Any]] = {}
    for field in signature.inputs:
        name = f"in.{field.name}"
        if name not in names or field.kind == "date":
            continue
        if field.captured in ("drop", "hash"):
            notes.append(f"{field.name} is captured as a hash, which cannot be compared")
            continue
        if field.is_tensor:
            continue
        columns[Key("input", field.name)] = _captured(field, table[name])
    columns |= _captured_outputs(signature, table, names)
    at = np.asarray(table["at"].cast("int64"), np.float64) / 1e6 if rows else None
    observed = Observed(table.num_rows, columns, at)
    return Found(observed, captured_arrays(signature, table), "captured traffic", tuple(notes))


def _captured(field: Field, column: Any) -> NDArray[Any]:
    """A captured input in the form in which it is compared."""
    if field.kind in ("category", "boolean", "text"):
        return _texts(column.to_pylist())
    return _floats(column)


def _floats(column: Any) -> NDArray[np.float64]:
    filled = column.cast("float64").fill_null(float("nan"))
    return np.asarray(filled, np.float64)


def _captured_outputs(signature: Signature, table: Any, names: frozenset[str]) -> dict[Key, NDArray[Any]]:
    if f"out.{ANSWERS}" not in names or not table.num_rows or signature.task == "transform":
        return {}
    found: dict[Key, NDArray[Any]] = {}
    answered = table[f"out.{ANSWERS}"]
    outcomes = table["outcome"].to_pylist()
    if signature.task == "regression":
        values = _floats(answered)
        truth = np.asarray([np.nan if text is None else float(text) for text in outcomes], np.float64)
        found[Key("output", PREDICTION)] = values
        found[Key("quality", ERROR)] = np.abs(truth - values)
        return found
    named = _texts(answered.to_pylist())
    found[Key("output", PREDICTION)] = named
    if signature.classes:
        found[Key("quality", ERROR)] = judged(named, _texts(outcomes))
    if f"out.{PROBABILITIES}" in names:
        held = table[f"out.{PROBABILITIES}"].to_pylist()
        classes = len(signature.classes)
        blank = [np.nan] * classes
        found[Key("output", PROBABILITY)] = _surety(np.asarray([each or blank for each in held], np.float64))
    return found
