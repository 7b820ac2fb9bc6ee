"""The steps of a turn. Each finds what the ones before it left, and gives what is kept of it in the record.

A step may be begun again after a kill: it then does the same once more, or finds that it was done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.package import Package
from servable.artifact.recipe import Recipe
from servable.clock import Clock
from servable.errors import ConflictError, DataError
from servable.progress import Progress
from servable.registry.home import Home, publish
from servable.registry.records import WHOLE, VersionRecord
from servable.registry.rollout_records import RolloutRecord
from servable.registry.turns import TurnState
from servable.updating import collect, gate, learning, window
from servable.updating.options import UpdateOptions
from servable.updating.staging import Challenger, Staging
from servable.workflows.rollouts import Wish, begin
from servable.workflows.signers import NO_SIGNER, Signer, check_new

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.data import Problem


class Stepped(NamedTuple):
    """What a step came to.

    Attributes:
        said: what the record keeps of it; JSON-able.
        state: how the turn stands after it; any end ends it.
        why: one sentence for an end.
    """

    said: dict[str, Any]
    state: TurnState = "running"
    why: str = ""


@dataclass(frozen=True, eq=False)
class Work:
    """What all steps of a turn work with.

    Attributes:
        home: where.
        staging: what was made so far.
        turn: its number.
        reason: why it was due.
        champion: the version that the new one is compared with.
        package: of that version.
        recipe: of that version.
        options: what was asked for.
        record: what the steps before said, by step.
        progress: told of every stage.
        clock: dates the records.
        alone: raises ``ConflictError`` once somebody else may be working on the model.
        signer: signs what is registered.
    """

    home: Home
    staging: Staging
    turn: int
    reason: str
    champion: VersionRecord
    package: Package
    recipe: Recipe
    options: UpdateOptions
    record: dict[str, Any]
    progress: Progress
    clock: Clock
    alone: Callable[[], None]
    signer: Signer = NO_SIGNER

    def cut(self) -> window.Cut:
        """Which rows are learned from and which are held out, as ``collect`` decided."""
        said = self.record["collect"]
        return window.cut(int(said["rows"]), int(said["unseen"]), self.options.window)

    def held(self) -> "pd.DataFrame":
        """The rows that both versions are measured on."""
        return self.staging.rows().iloc[self.cut().held].reset_index(drop=True)

    def challenger(self) -> Challenger:
        """The model that the step ``train`` kept, which may run code where that of the champion may."""
        return self.staging.challenger(trust=self.package.manifest.trusted)

    def problem(self) -> "Problem":
        """The rows as something to learn from, its classes in the order of the challenger's."""
        rows = self.staging.rows()
        if self.options.online:
            return learning.problem_as_learned(rows, self.challenger().trained.signature)
        return learning.problem_of(rows, self.package.signature, self.recipe)

    def unseen(self) -> "pd.DataFrame":
        """The rows that the champion never saw and that are not held out."""
        first = int(self.record["collect"]["rows"]) - int(self.record["collect"]["unseen"])
        return self.staging.rows().iloc[first : self.cut().held[0]].reset_index(drop=True)


def collected(work: Work) -> Stepped:
    """Read the original rows and the labelled traffic, and keep them."""
    work.progress.begin("Collect the rows")
    signature = work.package.signature
    data = Path(work.options.data) if work.options.data else None
    first = collect.original(work.recipe, signature, data)
    traffic = collect.labelled(work.home, work.champion.model, signature)
    rows = collect.joint(first, traffic.frame)
    known = collect.microseconds_of(work.recipe.traffic_until)
    at = rows[collect.AT].to_numpy(dtype=np.int64)
    unseen = int((at > known).sum())
    parts = window.cut(len(rows), unseen, work.options.window)
    work.staging.keep_rows(rows)
    work.progress.done(f"{len(first)} original, {len(rows) - len(first)} of labelled traffic")
    return Stepped({
        "rows": len(rows),
        "original": len(first),
        "traffic": len(rows) - len(first),
        "unseen": unseen,
        "learned": len(parts.learn),
        "held": len(parts.held),
        "strange": traffic.strange,
        "until": collect.moment(int(at.max(initial=0))),
        "learned_until": collect.moment(int(at[parts.learn].max(initial=0))),
        "labelled_until": collect.moment(traffic.labelled_until),
    })  # fmt: skip


def trained(work: Work) -> Stepped:
    """Fit the recipe on the rows that are not held out."""
    if work.options.online:
        return _learned_on(work)
    fit = learning.fit_of(work.package, work.recipe)
    work.progress.begin(f"Fit {fit.estimator}")
    problem = learning.problem_of(work.staging.rows(), work.package.signature, work.recipe)
    rows = work.cut().learn
    _check_classes(problem, rows)
    challenger = learning.fitted(problem.part(rows), fit, window.weights(len(rows), work.options.window))
    work.staging.keep_challenger(challenger)
    work.progress.done(f"on {len(rows)} rows")
    return Stepped(
        {"estimator": fit.estimator, "params": dict(fit.params), "seed": fit.seed, "rows": len(rows)}
    )


def _learned_on(work: Work) -> Stepped:
    """Let the present version learn on from the rows that it never saw and that are not held out."""
    work.progress.begin("Learn on")
    estimator = str(work.package.manifest.recipe.get("estimator", ""))
    rows = work.unseen()
    target = work.package.signature.answer.name
    # Also those that occur only in the rows held out: not to know them is a mistake, and counts as one.
    labels = list(dict.fromkeys(work.staging.rows()[target]))
    challenger = learning.learned_on(learning.restored(work.package), rows, labels)
    work.staging.keep_challenger(challenger)
    work.progress.done(f"from {len(rows)} rows")
    return Stepped({"estimator": estimator, "online": True, "rows": len(rows)})


def evaluated(work: Work) -> Stepped:
    """Let both answer the newest rows, which neither learned from."""
    work.progress.begin("Compare with the present version")
    held, challenger = work.held(), work.challenger()
    problem = work.problem()
    truth = problem.truth_at(work.cut().held)
    mine, theirs = work.package.signature, challenger.trained.signature
    answers = learning.answers_of_package(work.package, held), learning.answers_of(challenger, held)
    # The challenger's come first, because the truth is counted in them.
    labels = tuple(dict.fromkeys([*theirs.classes, *mine.classes]))
    if labels:
        answers = gate.aligned(mine, answers[0], labels), gate.aligned(theirs, answers[1], labels)
    rules = work.options.gate
    if not rules.metric and labels:
        # What the recipe was chosen by, so that a rare class counts as it did then.
        rules = msgspec.structs.replace(rules, metric=str(work.package.manifest.recipe.get("metric", "")))
    found = gate.compare(
        rules,
        np.asarray(truth),
        *answers,
        classes=len(labels),
        slices=learning.slices_of(held, rules.slices),
        seed=work.recipe.seed,
    )
    whole = found.whole
    work.progress.done(f"{found.metric} {whole.champion:.4f} -> {whole.challenger:.4f}")
    return Stepped(msgspec.to_builtins(found))


def gated(work: Work) -> Stepped:
    """Hold the comparison against the rules."""
    comparison = msgspec.convert(work.record["evaluate"], gate.Comparison)
    moved = any(work.record.get("signs", {}).values())
    verdict = gate.judge(work.options.gate, comparison, moved=moved)
    said = msgspec.to_builtins(verdict)
    if not verdict.passed:
        return Stepped(said, "refused", "; ".join(verdict.reasons))
    return Stepped(said)


def registered(work: Work) -> Stepped:
    """Make it the next version, signed; one that this turn registered before a kill is found again."""
    note = f"Turn {work.turn}: {work.reason}"
    before = registered_by(work.home, work.champion.model, work.turn)
    if before is not None:
        # It may have been registered and not signed yet; a second signature takes the place of the first.
        work.signer.sign(work.home, before)
        return Stepped({"version": before.version, "package": before.package})
    work.progress.begin("Package and register")
    folder, head = work.staging.package()
    work.alone()
    record = publish(work.home, folder, head, note=note)
    work.signer.sign(work.home, record)
    work.progress.done(record.reference)
    return Stepped({"version": record.version, "package": record.package})


def registered_by(home: Home, model: str, turn: int) -> VersionRecord | None:
    """The version that a turn registered; None if it registered none."""
    for record in reversed(home.models.versions(model)):
        if record.note.startswith(f"Turn {turn}:"):
            return record
    return None


def deployed(work: Work) -> Stepped:
    """Let it take over, unless somebody deployed another version meanwhile."""
    model, version = work.champion.model, int(work.record["register"]["version"])
    present = work.home.deployments.get(model)
    if work.options.deploy == "never" or present is None:
        why = "left for a person to deploy" if present is not None else f"{model} is not deployed"
        return Stepped({"deploy": "never"}, "registered", f"{model}:{version} is registered, {why}")
    if present.version not in (version, work.champion.version):
        raise ConflictError(
            f"{model}:{present.version} was deployed while turn {work.turn} compared with version "
            f"{work.champion.version}; {model}:{version} is registered and was not deployed."
        )
    if work.options.deploy != "now":
        return _rolled_out(work, version)
    if present.traffic != WHOLE:
        raise ConflictError(
            f"The requests of {model} were divided while turn {work.turn} went on; {model}:{version} is "
            "registered and was not deployed."
        )
    work.alone()
    work.progress.begin("Deploy")
    check_new(work.home, work.home.models.resolve(f"{model}:{version}"))
    work.home.deployments.deploy(model, version)
    work.progress.done(f"{model}:{version}")
    return Stepped({"deploy": work.options.deploy}, "promoted", f"{model}:{version} took over")


def _rolled_out(work: Work, version: int) -> Stepped:
    """Begin a rollout of the new version; what becomes of it decides how the turn ends."""
    model, how = work.champion.model, work.options.deploy
    begun = rollout_of(work.home, work.champion, version)
    if begun is None:
        work.alone()
        work.progress.begin(f"Begin the {how}")
        wish = (
            Wish(canary=work.options.steps, every=work.options.every)
            if how == "canary"
            else Wish(shadow=True)
        )
        begin(work.home, f"{model}:{version}", wish)
        work.progress.done(f"{model}:{version}")
        begun = rollout_of(work.home, work.champion, version)
    number = 0 if begun is None else begun.id
    return Stepped({"deploy": how, "rollout": number}, "waiting", f"{model}:{version} is rolled out ({how})")


def rollout_of(home: Home, champion: VersionRecord, version: int) -> RolloutRecord | None:
    """The newest rollout of a version against the champion; None if there was none."""
    for record in home.rollouts.of(champion.model):
        if record.champion == champion.version and record.challenger == version:
            return record
    return None


def _check_classes(problem: Any, rows: Any) -> None:
    """Every class must be among the rows that are learned from.

    Raises:
        DataError: one is only among the newest.
    """
    classes = problem.signature.classes
    if not classes:
        return
    absent = np.flatnonzero(np.bincount(problem.truth[rows], minlength=len(classes)) == 0)
    if len(absent):
        raise DataError(
            f"Class {classes[int(absent[0])]!r} occurs only among the rows that are held out; "
            "wait for more labels."
        )
