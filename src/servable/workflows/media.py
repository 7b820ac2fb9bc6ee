"""Pictures and sounds for ``train`` and ``select``: reading, and what a prediction of each family costs."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from servable.errors import DependencyMissing, SettingInvalid
from servable.frameworks import lookup
from servable.progress import Progress
from servable.workflows.costs import Candidate, Terms, entry
from servable.workflows.outcomes import Leaderboard, LeaderboardEntry
from servable.workflows.reading import LABEL, Lesson, Wish
from servable.workflows.samples import SAMPLE_ROWS

if TYPE_CHECKING:
    from servable.training.outcome import TrainingResult
    from servable.training.tasks.tensors import Fitted, TensorProblem

#: Seconds for choosing and learning when nobody says.
BUDGET_S = 270.0
#: Share of the time of ``select`` after which a network stops learning.
_LEARN_SHARE = 0.9
#: Rows on which a candidate of ``select`` is proven and timed; lossy forms are measured on more.
_PROOF_ROWS = 100
#: By which families are compared.
METRIC = "accuracy"


def is_media(data: Any, target: str | None) -> TypeGuard[str | Path]:
    """Whether data are labelled pictures or sounds; looks at names and first bytes only."""
    if not isinstance(data, str | Path):
        return False
    from servable.training.tasks.media import is_media as found

    return found(Path(data), target)


def lesson(path: Path, wish: Wish, progress: Progress) -> Lesson:
    """Read and prepare labelled files, ready to be learned from.

    Raises:
        DataError: the files cannot be learned from.
        DependencyMissing: the extra ``torch``, or that of the files, is not installed.
        SettingInvalid: an option cannot be used.
    """
    if wish.refit:
        raise SettingInvalid("Models of pictures and sounds are served as measured; leave --refit out.")
    problem = _problem(path, wish, progress)
    from servable.training.outcome import SET_ASIDE
    from servable.training.tasks.learning import Course, train

    def learn(folder: Path) -> "TrainingResult":
        course = Course(str(wish.models), _budget(wish), wish.seed, folder)
        order = SET_ASIDE if problem.set_aside else "random"
        split = {"share": wish.holdout, "order": order, "seed": wish.seed}
        return train(problem, course, {"data": path.name, "split": split}, progress)

    return Lesson(learn, {"data": path.name, "rows": len(problem.rows)}, problem.signature)


def select_media(path: Path, wish: Wish, progress: Progress) -> Leaderboard:
    """Compare the families on rows held apart, then compile each and time one row as it would be served.

    Raises:
        DataError: the files cannot be learned from.
        DependencyMissing: the extra ``torch``, or that of the files, is not installed.
        SettingInvalid: an option cannot be used.
    """
    until = time.monotonic() + _budget(wish) * _LEARN_SHARE
    problem = _problem(path, wish, progress)
    wish.allowed.check(problem.signature)
    from servable.training.tasks import tensors

    fitted = tensors.compete(problem, models=wish.models, until=until, seed=wish.seed, progress=progress)
    progress.begin("Compile and time", total=len(fitted))
    entries = []
    for each in fitted:
        entries.append(_entry(problem, each, Terms(METRIC, wish.tolerance, wish.allowed)))
        progress.advance(1, each.result.name)
    progress.done()
    return Leaderboard(
        task="classification",
        target=problem.signature.answer.name,
        rows_total=len(problem.rows),
        metric=METRIC,
        higher_is_better=True,
        entries=tuple(entries),
        columns=(),
    )


def _budget(wish: Wish) -> float:
    return BUDGET_S if wish.time_budget_s is None else wish.time_budget_s


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
        found, target=wish.target or LABEL, holdout=wish.holdout, seed=wish.seed, progress=progress
    )


def _entry(problem: "TensorProblem", fitted: "Fitted", terms: Terms) -> LeaderboardEntry:
    from servable.training.tasks.learning import ADAPTER, exported
    from servable.training.tasks.tensors import SAMPLE_BYTES

    most = max(1, SAMPLE_BYTES // max(1, problem.rows[0].nbytes))
    places = problem.holdout[: min(most, SAMPLE_ROWS) if terms.allowed.needs_truth else _PROOF_ROWS]
    rows = {problem.field.name: problem.rows[places]}
    with tempfile.TemporaryDirectory(prefix="servable-") as folder:
        trained = exported(problem, fitted, Path(folder))
        package = Path(folder) / "package"
        package.mkdir()
        variant = lookup.adapter(ADAPTER).write(trained, package)
        return entry(Candidate(fitted.result, trained, variant, rows, problem.truth[places]), package, terms)
