"""The step that makes the package of a new version: fitted with the newest rows, compiled, proven, timed."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from servable.artifact.manifest import Manifest
from servable.artifact.package import Package
from servable.artifact.recipe import Recipe
from servable.artifact.signature import Signature
from servable.clock import timestamp
from servable.frameworks import lookup
from servable.optimization.measure import time_predictor
from servable.runtime.model import variant_of
from servable.tensors import Arrays
from servable.updating import gate, learning, window
from servable.updating.steps import Stepped, Work
from servable.workflows.losses import allowance
from servable.workflows.outcomes import VariantRow
from servable.workflows.packaging import Contents, Proving, filled
from servable.workflows.samples import SAMPLE_ROWS, Sample

if TYPE_CHECKING:
    from servable.training.data import Problem
    from servable.training.evaluate import Evaluation

#: Seconds that each of both is timed for.
_TIMED_S = 0.15


def optimised(work: Work) -> Stepped:
    """Compile and prove the new version, after it was fitted with the newest rows too, and time it."""
    made = fill(work)
    verdict = timed(work)
    said = {"serving": made.serving, "timing": list(verdict.reasons), "refitted": work.options.refit}
    if not verdict.passed:
        return Stepped(said, "refused", "; ".join(verdict.reasons))
    return Stepped(said)


def fill(work: Work) -> Manifest:
    """Put everything of the new version into the staging folder.

    Raises:
        DataError: it cannot learn from all of the rows.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    from servable.training import evaluate
    from servable.training.outcome import profile_of

    held, measured = work.held(), work.challenger()
    problem = work.problem()
    found = evaluate.evaluate(
        measured.trained.signature, problem.truth_at(work.cut().held), learning.answers_of(measured, held)
    )
    final, rows = measured, work.cut().learn
    if work.options.refit and work.options.online:
        rows = _all(problem)
        final = learning.learned_on(measured, held)
    elif work.options.refit:
        rows = window.recent(_all(problem), work.options.window)
        fit = learning.fit_of(work.package, work.recipe)
        work.progress.begin(f"Fit {fit.estimator} with the newest rows too")
        final = learning.fitted(problem.part(rows), fit, window.weights(len(rows), work.options.window))
        work.progress.done(f"on {len(rows)} rows")
    seen = profile_of(problem, rows)
    told = _told(work)
    allowed = allowance(told.max_loss)
    newest = problem.part(work.cut().held)
    source = _source(work)
    kept = _of_the_file(work, problem)
    contents = Contents(
        model=work.champion.model,
        adapter=final.adapter,
        trained=final.trained,
        sample=Sample(newest.arrays, newest.truth),
        recipe=_recipe(work, problem, len(rows)),
        metrics=dict(found.metrics),
        source=source,
        evaluation=found,
        profile=seen,
        report=partial(_report, work, problem, found, seen, final.trained.signature),
        proving=Proving(told.tolerance, allowed.lossy(problem.signature, newest.truth)),
        told=told,
        tune=work.options.tune,
        trusted=work.package.manifest.trusted,
        kept=kept,
        keeps_rows=kept is not None,
    )
    return work.staging.keep_package(lambda folder: filled(folder, contents, progress=work.progress))


def _of_the_file(work: Work, problem: "Problem") -> Sample | None:
    """Rows that the package may keep: the newest of the file that was trained on; None where there are none.

    Captured rows are about people whom erasing must reach, and nothing takes them out of a package.
    """
    import numpy as np

    count = int(work.record["collect"]["original"])
    if not count:
        return None
    rows = problem.part(np.arange(max(0, count - SAMPLE_ROWS), count, dtype=np.int64))
    return Sample(rows.arrays, rows.truth)


def timed(work: Work) -> gate.Verdict:
    """Whether the new version answers quickly enough, in the form that serves, beside the present one."""
    folder, head = work.staging.package()
    work.progress.begin("Time it beside the present version")
    challenger = work.challenger()
    rows = work.held().iloc[:256]
    from servable.frameworks.frame import pack

    theirs = Package(folder, head, challenger.trained.signature, "")
    pair = [_seconds(each, pack(rows, each.signature)) for each in (work.package, theirs)]
    verdict = gate.in_time(work.options.gate, *pair)
    work.progress.done(verdict.reasons[0])
    return verdict


def _seconds(package: Package, arrays: Arrays) -> float:
    """Median seconds of one call with one row."""
    chosen = variant_of(package.manifest)
    adapter = lookup.adapter(chosen.format)
    predictor = adapter.load(package.folder, chosen, package.signature, trust=package.manifest.trusted)
    try:
        return time_predictor(predictor, arrays, (1,), budget=_TIMED_S)[0].seconds
    finally:
        predictor.close()


def _all(problem: "Problem") -> Any:
    import numpy as np

    return np.arange(problem.size, dtype=np.int64)


def _told(work: Work) -> Recipe:
    """The recipe of the new version: the same, and what it learned from besides."""
    said = work.record["collect"]
    until = said["until"] if work.options.refit else said["learned_until"]
    traffic = int(said["traffic"]) - (0 if work.options.refit else int(said["held"]))
    data = str(Path(work.options.data).absolute()) if work.options.data else work.recipe.data
    digest = work.recipe.sha256 if not work.options.data else ""
    return msgspec.structs.replace(
        work.recipe, traffic_rows=traffic, traffic_until=until, data=data, sha256=digest
    )


def _recipe(work: Work, problem: "Problem", rows: int) -> dict[str, Any]:
    """How the new version was made, in the words of a training."""
    from servable.training.outcome import libraries

    said = work.record["collect"]
    return {
        **work.package.manifest.recipe,
        "rows_train": rows,
        "rows_holdout": int(said["held"]),
        "libraries": libraries(),
        "split": {"order": "time", "rows": int(said["held"]), "refitted": work.options.refit},
        "window": msgspec.to_builtins(work.options.window),
        "update": {"turn": work.turn, "reason": work.reason, "from": work.champion.version},
    }


def _source(work: Work) -> dict[str, Any]:
    """Where the rows came from."""
    said = work.record["collect"]
    before = {key: value for key, value in work.package.manifest.source.items() if key != "traffic"}
    return {**before, "traffic": {"rows": int(said["traffic"]), "until": said["until"]}}


def _report(
    work: Work,
    problem: "Problem",
    found: "Evaluation",
    seen: Any,
    signature: Signature,
    variants: tuple[VariantRow, ...],
) -> str:
    """The report of the new version, with that of the present one to compare with."""
    from servable.training import report
    from servable.workflows.train import previous_evaluation

    shown = report.Report(
        title=work.champion.model,
        evaluation=found,
        signature=signature,
        created_at=timestamp(work.clock.now()),
        data=f"labelled traffic, turn {work.turn}",
        profile=seen,
        recipe=_recipe(work, problem, int(work.record["train"]["rows"])),
        columns=problem.columns,
        notes=problem.notes,
    )
    return report.render(
        shown, previous=previous_evaluation(work.home, work.champion.reference), variants=variants
    )
