"""``score``: a version's answers to every row of a file, however large, without a server."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from servable.artifact.files import storage_errors, sync_file, sync_folder
from servable.artifact.package import Package
from servable.errors import ConflictError, DataError, SettingInvalid, StorageFailed
from servable.inputs.rows import Preparer
from servable.progress import NoProgress, Progress
from servable.protocols.columns import ColumnReader, need_arrow
from servable.registry.policy import Policy
from servable.runtime.executor import run_batch
from servable.runtime.model import LoadedModel, load_model, usable_cores, variant_of
from servable.runtime.placement import DECLARATIVE, UNEVEN, found_here
from servable.runtime.rehearsal import example_arrays
from servable.tensors import take
from servable.workflows.homes import opened
from servable.workflows.outcomes import ScoreOutcome
from servable.workflows.scoring.columns import Written
from servable.workflows.scoring.course import Road, refusal, travel
from servable.workflows.scoring.forms import Form, form_for
from servable.workflows.scoring.journal import Journal, Work
from servable.workflows.scoring.source import HEAD_BYTES, Source, reading
from servable.workflows.scoring.sources import open_source

T = TypeVar("T")

#: Values of a piece, so that a table of fifteen columns comes some thirty thousand rows at a time.
_VALUES = 1 << 19
#: Fewest and most rows of a piece of a table.
_LEAST_ROWS, _MOST_ROWS = 1024, 1 << 16
#: A piece keeps the model busy for no longer than this, so that progress is seen and little is lost.
_PIECE_S = 2.0
#: Rows of the run by which that is judged.
_TRIAL_ROWS = 64
#: A run of one piece in a model process may take so long before it counts as hung.
_RUN_LIMIT_S = 600.0
#: Processes of a model that needs Python, at most; each holds the whole model.
_MOST_PROCESSES = 8


class _Asked(NamedTuple):
    """What the caller of ``score`` said of the files, with the same names."""

    data: Path
    output: Path
    keep: Sequence[str] | None
    only_answers: bool
    batch_rows: int
    overwrite: bool
    restart: bool


class _Task(NamedTuple):
    """What is to be done, checked as far as it can be without the model."""

    package: Package
    source: Source
    reader: ColumnReader
    form: Form
    output: Path
    keep: tuple[str, ...] | None
    batch_rows: int


def score(
    reference: str,
    data: str | Path,
    *,
    output: str | Path,
    keep: Sequence[str] | None = None,
    only_answers: bool = False,
    batch_rows: int = 0,
    overwrite: bool = False,
    restart: bool = False,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> ScoreOutcome:
    """Answer every row of a file and write the answers beside the rows.

    The file is read, answered and written in pieces, so it may be larger than memory. What is finished
    lies in ``OUT.parts`` until the output takes its place as a whole; after a kill the same call goes on
    where it was, and the output is the same as without the kill.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        data: CSV, JSON lines (``.jsonl``, ``.ndjson``; both also ``.gz``, ``.zst``, ``.bz2``) or Parquet.
        output: a file ending in ``.csv``, ``.jsonl``, ``.ndjson``, ``.parquet`` or ``.pq``.
        keep: columns of the input to write beside the answers; all when None.
        only_answers: write none of them.
        batch_rows: rows that are answered at once; 0: to suit the model.
        overwrite: whether an output that exists may be replaced.
        restart: throw away what an earlier run left unfinished.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        FileMissing: there is no such file.
        DataError: the file cannot be read, or rows do not fit the signature; says which.
        ConflictError: the output exists, or an unfinished run was made of something else.
        SettingInvalid: options that cannot be used.
        ModelFailed: the model raised on a row.
        StorageFull: no space left.
        StorageFailed: input or output is not possible.
        DependencyMissing: pyarrow is not installed.
    """
    asked = _Asked(Path(data), Path(output), keep, only_answers, batch_rows, overwrite, restart)
    return _scored(reference, asked, home, progress or NoProgress())


def _scored(reference: str, asked: _Asked, home: str | Path | None, watched: Progress) -> ScoreOutcome:
    """From what was asked to the output in its place."""
    started = time.monotonic()
    need_arrow()
    form = form_for(asked.output)
    _check(asked)
    watched.begin("Open the model and the data")
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
    source = open_source(asked.data, package.signature)
    reader = ColumnReader(package.signature, texts=source.texts)
    _check_columns(source, reader)
    kept = () if asked.only_answers else None if asked.keep is None else tuple(asked.keep)
    task = _Task(package, source, reader, form, asked.output, kept, asked.batch_rows)
    work = _work(task, record.package)
    journal = Journal(asked.output, work, restart=asked.restart)
    before = 0 if journal.mark is None else journal.mark.rows
    try:
        watched.done(f"{record.reference}, {asked.data.name}")
        rows, loaded = _completed(lambda: _course(task, work, journal, watched))
        _put_in_place(task, journal, rows, watched, overwrite=asked.overwrite)
    except DataError:
        # The file has to be changed, and nothing that was made of this one can be used then.
        journal.discard()
        raise
    finally:
        journal.close()
    seconds = time.monotonic() - started
    return ScoreOutcome(
        model=record.model,
        version=record.version,
        rows=rows,
        resumed=before,
        output=str(asked.output),
        absent=() if not source.fixed else reader.absent(source.schema.names),
        variant=loaded.variant.name,
        executor=loaded.placement,
        seconds=seconds,
        rows_per_second=(rows - before) / max(seconds, 1e-9),
    )


def _check(asked: _Asked) -> None:
    """Everything that can be said before anything is opened."""
    source, target = asked.data, asked.output
    if asked.keep is not None and asked.only_answers:
        raise SettingInvalid("--keep and --only-answers exclude each other; give one of them.")
    if asked.batch_rows < 0:
        wrong = f"not {asked.batch_rows}"
        raise SettingInvalid(f"--batch-rows must be 1 or more (or 0 to suit the model), {wrong}.")
    if target.is_dir():
        raise SettingInvalid(f"{target} is a folder; give the file to write.")
    if not target.parent.is_dir():
        raise StorageFailed(f"There is no folder {target.parent} to write into; make it first.")
    if target.exists():
        if source.exists() and target.samefile(source):
            raise SettingInvalid(f"{target} is the input itself; give another output.")
        if not asked.overwrite:
            raise ConflictError(f"{target} exists; give another output, or replace it with --overwrite.")


def _check_columns(source: Source, reader: ColumnReader) -> None:
    """Whether the file has the columns that the model needs.

    Raises:
        DataError: it lacks one, or has one of a type that never fits.
    """
    for problem in reader.look(source.schema.empty_table()).problems:
        if problem.row is None:
            raise refusal(source, problem)
    inputs = [field.name for field in reader.signature.inputs]
    if len(reader.absent(source.schema.names)) == len(inputs):
        raise DataError(
            f"{source.path} has none of the columns of the model ({', '.join(inputs[:8])}"
            f"{', ...' if len(inputs) > 8 else ''})."
        )


def _work(task: _Task, digest: str) -> Work:
    """What the journal compares."""
    path = task.source.path
    with reading(path):
        facts = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
    return Work(
        input={
            "path": str(path.resolve()),
            "size": facts.st_size,
            "mtime_ns": facts.st_mtime_ns,
            "head": head,
        },
        package={"digest": digest, "variant": variant_of(task.package.manifest).name},
        output={
            "form": task.form.name,
            "keep": None if task.keep is None else list(task.keep),
            "batch_rows": task.batch_rows,
        },
    )


async def _course(task: _Task, work: Work, journal: Journal, progress: Progress) -> tuple[int, LoadedModel]:
    """Load the model, answer what is not finished, and give everything back."""
    progress.begin("Load the model")
    loaded = await load_model(task.package, _policy(task.package))
    try:
        signature = task.package.signature
        example = example_arrays(signature)
        answers = await run_batch(loaded.executor, example)
        written = Written(task.source, signature, task.form, task.keep, answers)
        alone = not loaded.batching.shared or loaded.batching.rows == 1
        if journal.mark is None:
            step = task.batch_rows or await _step(loaded, example, alone=alone)
            journal.begin(msgspec.structs.replace(work, step=step), written.head)
        most = 1 if alone else task.batch_rows
        road = Road(task.source, task.reader, Preparer(signature), loaded.executor, most, written, journal)
        progress.done(f"{loaded.variant.name}, {loaded.placement}")
        progress.begin(f"Score {task.source.path.name}", total=task.source.size)
        begun = time.monotonic()
        rows = await travel(road, progress, begun)
        progress.done(f"{rows:,} rows")
    finally:
        await loaded.executor.close()
    return rows, loaded


def _policy(package: Package) -> Policy:
    """Everything that this machine has: threads where the graph allows it, processes where Python runs."""
    variant = variant_of(package.manifest)
    if variant.format in DECLARATIVE - UNEVEN:
        # What the search found about runs at once is for single rows; here every core has pieces to answer.
        each = found_here(variant).get("threads", 1)
        return Policy(executor="thread", threads=max(1, usable_cores() // max(1, int(each))))
    return Policy(processes=min(usable_cores(), _MOST_PROCESSES), run_limit_s=_RUN_LIMIT_S)


async def _step(loaded: LoadedModel, example: dict[str, Any], *, alone: bool) -> int:
    """Rows of a piece that suit the model: by the size of a row, and by the time that it takes."""
    values = sum(int(np.prod(array.shape[1:])) for array in example.values())
    rows = min(max(_VALUES // max(values, 1), 1), _MOST_ROWS)
    if all(not field.is_tensor for field in loaded.signature.inputs):
        rows = max(rows, _LEAST_ROWS)
    if alone:
        seconds = loaded.example_seconds
    else:
        trial = take(example, np.zeros(min(rows, _TRIAL_ROWS), np.intp))
        begun = time.perf_counter()
        await run_batch(loaded.executor, trial)
        seconds = (time.perf_counter() - begun) / min(rows, _TRIAL_ROWS)
    return max(1, min(rows, int(_PIECE_S / max(seconds, 1e-9))))


def _put_in_place(task: _Task, journal: Journal, rows: int, progress: Progress, *, overwrite: bool) -> None:
    """The output as a whole, durable, and nothing left beside it."""
    progress.begin(f"Write {task.output.name}", total=rows)
    with storage_errors(f"writing {task.output}"):
        made = task.form.finish(journal.grown, journal.finished, progress.advance)
        sync_file(made)
        if task.output.exists() and not overwrite:
            raise ConflictError(
                f"{task.output} was made by somebody else meanwhile; run it again with --overwrite."
            )
        made.rename(task.output)
        sync_folder(task.output.parent)
    journal.discard()
    progress.done(f"{task.output.stat().st_size / 2**20:,.1f} MiB")


def _completed(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a thread where this one has an event loop that runs (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
