"""What the verbs return: frozen records that print as tables and travel as JSON."""

from typing import Any

import msgspec

from servable.artifact.loss import Loss
from servable.artifact.signature import Signature
from servable.monitoring.quality import VersionQuality
from servable.monitoring.standing import VersionDrift
from servable.registry.schedules import ScheduleRecord
from servable.workflows.monitored import AlertRow
from servable.workflows.rollout_outcomes import RolloutOutcome
from servable.workflows.running_outcomes import RunningServer


class ColumnNote(msgspec.Struct, frozen=True):
    """What was made of a column, and why."""

    name: str
    kind: str
    note: str


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """One executable form of a version as the ``optimize`` table shows it.

    Attributes:
        name: ``trained``, ``onnx-fp64`` ...
        chosen: whether this one serves.
        equal: the verdict of the proof; None for the trained form, with which the others are compared.
        rows_compared: held-out and made rows of the proof.
        label_differences: rows whose label differs.
        worst_difference: the largest difference of a probability or value.
        timings: median seconds of one call by number of rows (the key, as text).
        speedup: single-row time of the trained form divided by this one's; None when either is unknown.
        note: one line, for instance why it was refused.
        loss: of a lossy form: what it costs in a metric, and what was allowed.
        kept: whether the package holds it.
        runs: where it would run on this machine: ``inline``, ``thread``, ``process``; empty where that
            is not known before it is loaded. Only ``describe`` says so.
        runs_why: one sentence on that.
        session: options of onnxruntime that were found best for this kind of machine; empty where
            nothing was searched.
        session_said: what of that differs from the defaults, in words.
        unchecked: why its answer to the example is not compared when it is loaded; empty where it is.
    """

    name: str
    chosen: bool
    equal: bool | None
    rows_compared: int = 0
    label_differences: int = 0
    worst_difference: float = 0.0
    timings: dict[str, float] = {}
    speedup: float | None = None
    note: str = ""
    loss: Loss | None = None
    kept: bool = True
    runs: str = ""
    runs_why: str = ""
    session: dict[str, Any] = {}
    session_said: str = ""
    unchecked: str = ""


class LeaderboardEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of ``select``.

    Attributes:
        name: the candidate.
        score: mean over the folds.
        score_std: standard deviation over the folds.
        served_score: the score of the variant that would serve: ``score``, less what that variant costs on
            held-out rows where it is a lossy one.
        fit_seconds: mean time to fit one fold; of one that learns online, to answer and learn all rows.
        trained_us_per_row: microseconds to answer one row with the trained object.
        served_us_per_row: the same with the variant that would serve.
        served_variant: name of that variant.
        loss: what that variant costs in the metric of the largest loss, where it is a lossy one.
        note: one line, for instance why it was not compiled.
        online: whether it answered each row and then learned from it.
    """

    name: str
    score: float
    score_std: float
    served_score: float
    fit_seconds: float
    trained_us_per_row: float | None = None
    served_us_per_row: float | None = None
    served_variant: str = ""
    loss: Loss | None = None
    note: str = ""
    online: bool = False


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``select``: candidates, best first."""

    task: str
    target: str | None
    rows_total: int
    metric: str
    higher_is_better: bool
    entries: tuple[LeaderboardEntry, ...]
    columns: tuple[ColumnNote, ...]


class TrainOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``train``: a registered version and what is known about it.

    Where ``refitted``, the version learned from all ``rows_train`` rows, the ``rows_holdout`` among them,
    after a model that had not seen these was measured on them.
    """

    model: str
    version: int
    task: str
    estimator: str
    metric: str
    metrics: dict[str, float]
    baseline_metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    columns: tuple[ColumnNote, ...]
    dropped: tuple[ColumnNote, ...]
    rows_train: int
    rows_holdout: int
    serving: str
    variants: tuple[VariantRow, ...]
    report: str
    package: str
    seconds: float
    deployed: bool = False
    refitted: bool = False
    suspects: tuple[str, ...] = ()


class EvaluateOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``evaluate``.

    Attributes:
        model: that was measured.
        version: of it.
        rows: how many were answered.
        metrics: by name.
        intervals: 95 % intervals of the headline metrics.
        failed: one sentence for each metric below its gate.
        passed: whether there is none.
        report: where it was written; empty when nowhere.
        classes: labels of a classifier as text, in the model's order.
        confusion: of a classifier, counts: truth down, prediction across.
    """

    model: str
    version: int
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    failed: tuple[str, ...]
    passed: bool
    report: str
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


class AddOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``add``: a registered version of a model trained elsewhere."""

    model: str
    version: int
    framework: str
    task: str
    inputs: tuple[str, ...]
    serving: str
    variants: tuple[VariantRow, ...]
    package: str
    note: str = ""
    deployed: bool = False
    suspects: tuple[str, ...] = ()


class OptimizeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``optimize``: every form that was tried, proven and timed."""

    model: str
    version: int
    serving: str
    variants: tuple[VariantRow, ...]
    tolerance: float
    rows_compared: int
    machine: str


class DeployOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``deploy``, ``rollback`` and ``undeploy``; ``version`` is None after undeploy.

    ``policy`` is how it is to be served, as far as that differs from the defaults; ``shares`` is what part of
    the requests each version gets while they are divided, together 1; ``rollout`` is the one that was begun;
    ``ended`` names the rollout or the division to which this put an end, empty for none.
    """

    model: str
    version: int | None
    previous: int | None
    default: bool
    policy: dict[str, Any] = {}
    shares: dict[int, float] = {}
    rollout: RolloutOutcome | None = None
    ended: str = ""


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a home."""

    model: str
    versions: int
    latest: int
    deployed: int | None
    default: bool
    task: str
    framework: str
    metrics: dict[str, float]
    created_at: str
    aliases: dict[str, int]
    policy: dict[str, Any] = {}


class DeploymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment of a home: what should be served, and how (see ``DeployOutcome``).

    While its requests are divided, ``shares`` says what part each version gets, together 1; ``shadow`` is
    the version that gets copies of them. ``quality`` says how good its served answers were, ``drift`` what
    became of its columns, ``firing`` which alerts fire for any version of the model; ``schedule`` when a
    watch updates it next, None where none goes by time; ``rollout`` the rollout that goes on, such as
    ``canary, step 2 of 4``.
    """

    model: str
    version: int
    default: bool
    previous: int | None
    since: str
    serving: str
    policy: dict[str, Any] = {}
    shares: dict[int, float] = {}
    shadow: int | None = None
    rollout: str = ""
    quality: VersionQuality | None = None
    drift: VersionDrift | None = None
    firing: tuple[AlertRow, ...] = ()
    schedule: ScheduleRecord | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A home's desired state and, if a server was asked and answered, its actual state.

    Attributes:
        home: the folder.
        deployments: desired state.
        url: the server that was asked, empty if none.
        reachable: whether it answered; None if none was asked.
        server: what it said about itself; None if none answered.
    """

    home: str
    deployments: tuple[DeploymentRow, ...]
    url: str = ""
    reachable: bool | None = None
    server: RunningServer | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the registry and the package know about one version.

    ``policy`` is how the model's deployment is to be served, as far as that differs from the defaults;
    ``share`` is what part of the model's requests this version is to answer, from 0 to 1; ``quality`` how
    good its served answers were and ``drift`` what became of its columns, None where nothing is known;
    ``firing`` which alerts fire for it; ``schedule`` when a watch updates the model next.
    """

    model: str
    version: int
    versions: tuple[int, ...]
    aliases: tuple[str, ...]
    deployed: bool
    framework: str
    task: str
    created_at: str
    signature: Signature
    serving: str
    variants: tuple[VariantRow, ...]
    metrics: dict[str, float]
    recipe: dict[str, Any]
    source: dict[str, Any]
    libraries: dict[str, str]
    machine: str
    package: str
    report: str
    policy: dict[str, Any] = {}
    share: float = 0.0
    quality: VersionQuality | None = None
    drift: VersionDrift | None = None
    firing: tuple[AlertRow, ...] = ()
    schedule: ScheduleRecord | None = None


class ScoreOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``score``: a file with the answers.

    Attributes:
        model: its name.
        version: which one answered.
        rows: of the file, all of them answered.
        resumed: how many of them an earlier run had finished.
        output: the file.
        absent: columns of the model that the file lacks; they counted as missing values.
        variant: the form that answered.
        executor: where it ran.
        seconds: all in all, the load of the model included.
        rows_per_second: of this run, by these seconds.
    """

    model: str
    version: int
    rows: int
    resumed: int
    output: str
    absent: tuple[str, ...]
    variant: str
    executor: str
    seconds: float
    rows_per_second: float


class GeneratedClient(msgspec.Struct, frozen=True, kw_only=True):
    """A typed client.

    Attributes:
        model: for which it was made.
        version: whose signature it has.
        package: the digest of that version's package; empty when a server did not say it.
        language: ``python`` or ``typescript``.
        file: where it was written; empty when nowhere.
        source: its text.
    """

    model: str
    version: int
    package: str
    language: str
    file: str
    source: str
