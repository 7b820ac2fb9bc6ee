"""Pictures and sounds for ``train`` and ``select``: reading, and what a prediction of each family costs."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from servable.artifact.manifest import TRAINED
from servable.artifact.signature import Signature
from servable.errors import DependencyMissing
from servable.frameworks import lookup
from servable.progress import Progress
from servable.workflows.outcomes import Leaderboard, LeaderboardEntry

if TYPE_CHECKING:
    from servable.training.outcome import TrainingResult
    from servable.training.tasks.tensors import Fitted, TensorProblem

#: Seconds for choosing and learning when nobody says.
BUDGET_S = 240.0
#: Share of the time of ``select`` after which a network stops learning.
_LEARN_SHARE = 0.9
#: Rows on which a candidate of ``select`` is proven and timed.
_PROOF_ROWS = 100


class Wish(NamedTuple):
    """What the caller asks for; see ``train`` and ``select``."""

    target: str | None = None
    models: str | Sequence[str] = "auto"
    holdout: float = 0.2
    time_budget_s: float = BUDGET_S
    tolerance: float = 1e-4
    seed: int = 0


class Learn(NamedTuple):
    """What was read; ``train`` goes on, with a folder that stays until the package is written."""

    train: "Callable[[Path], TrainingResult]"
    source: dict[str, Any]
    signature: Signature


def is_media(data: Any, target: str | None) -> TypeGuard[str | Path]:
    """Whether data are labelled pictures or sounds; looks at names and first bytes only."""
    if not isinstance(data, str | Path):
        return False
    from servable.training.tasks.media import is_media as found

    return found(Path(data), target)


def lesson(path: Path, wish: Wish, progress: Progress) -> Learn:
    """Read and prepare labelled files, ready to be learned from.

    Raises:
        DataError: the files cannot be learned from.
        DependencyMissing: the extra ``torch``, or that of the files, is not installed.
        SettingInvalid: an option cannot be used.
    """
    problem = _problem(path, wish, progress)
    from servable.training.tasks.learning import Course, train

    def learn(folder: Path) -> "TrainingResult":
        course = Course(str(wish.models), wish.time_budget_s, wish.seed, folder)
        split = {"share": wish.holdout, "order": "random", "seed": wish.seed}
        return train(problem, course, {"data": path.name, "split": split}, progress)

    return Learn(learn, {"data": path.name, "rows": len(problem.rows)}, problem.signature)


def select_media(path: Path, wish: Wish, progress: Progress) -> Leaderboard:
    """Compare the families on rows held apart, then compile each and time one row as it would be served.

    Raises:
        DataError: the files cannot be learned from.
        DependencyMissing: the extra ``torch``, or that of the files, is not installed.
        SettingInvalid: an option cannot be used.
    """
    until = time.monotonic() + wish.time_budget_s * _LEARN_SHARE
    problem = _problem(path, wish, progress)
    from servable.training.tasks import tensors

    fitted = tensors.compete(problem, models=wish.models, until=until, seed=wish.seed, progress=progress)
    progress.begin("Compile and time", total=len(fitted))
    entries = []
    for each in fitted:
        entries.append(_entry(problem, each, wish.tolerance))
        progress.advance(1, each.result.name)
    progress.done()
    return Leaderboard(
        task="classification",
        target=problem.signature.answer.name,
        rows_total=len(problem.rows),
        metric="accuracy",
        higher_is_better=True,
        entries=tuple(entries),
        columns=(),
    )


def _problem(path: Path, wish: Wish, progress: Progress) -> "TensorProblem":
    try:
        import torch  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            "Learning from pictures and sounds needs torch, which is not installed; "
            "run: pip install 'servable[train,torch,image,audio]'"
        ) from missing
    from servable.training.tasks import media, tensors

    progress.begin("Read the data")
    found = media.read(path, target=wish.target)
    progress.done(f"{len(found.train.files)} files, {len(set(found.train.labels))} classes")
    return tensors.problem_of(
        found, target=wish.target or "label", holdout=wish.holdout, seed=wish.seed, progress=progress
    )


def _entry(problem: "TensorProblem", fitted: "Fitted", tolerance: float) -> LeaderboardEntry:
    from servable.optimization.choose import optimise
    from servable.training.tasks.learning import ADAPTER, exported

    rows = {problem.field.name: problem.rows[problem.holdout[:_PROOF_ROWS]]}
    with tempfile.TemporaryDirectory(prefix="servable-") as folder:
        trained = exported(problem, fitted, Path(folder))
        package = Path(folder) / "package"
        package.mkdir()
        variant = lookup.adapter(ADAPTER).write(trained, package)
        found = optimise(trained, rows, package, fallback=variant, tolerance=tolerance, batches=(1,))
    seconds = {each.name: each.timings[0].seconds for each in found.variants if each.timings}
    trained_s, served_s = seconds.get(TRAINED), seconds.get(found.serving)
    return LeaderboardEntry(
        name=fitted.result.name,
        score=fitted.result.score,
        score_std=fitted.result.score_std,
        fit_seconds=fitted.result.fit_seconds,
        trained_us_per_row=None if trained_s is None else trained_s * 1e6,
        served_us_per_row=None if served_s is None else served_s * 1e6,
        served_variant=found.serving,
        note=fitted.result.note or (found.notes[0] if found.notes else ""),
    )
