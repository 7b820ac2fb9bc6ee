"""What is found out about drift: records that print as tables, travel as JSON and are kept as findings."""

from typing import Literal

import msgspec

State = Literal["drift", "over", "steady", "unknown"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as drift: a difference must be both surprising and large.

    Attributes:
        alpha: share of the windows without any change in which at most something is called drift.
        effect: least stability index (PSI, less chance) of values that moved.
        missing: least change of the share of missing values.
        wrong: by how much the share of wrong answers must rise.
        error: by which part the mean error must grow.
        least_rows: a window with fewer rows is not judged on its own.
    """

    alpha: float = 0.01
    effect: float = 0.1
    missing: float = 0.05
    wrong: float = 0.05
    error: float = 0.25
    least_rows: int = 50


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One column in one window.

    Attributes:
        row: the window's first row.
        at: when that row came, ISO 8601 in UTC; empty where nobody knows.
        rows: in the window.
        drift: the verdict.
        reasons: what differs: ``values``, ``missing``, ``worse``.
        test: ``ks`` or ``chi2``.
        statistic: of the test.
        p_value: corrected for the number of columns.
        psi: less what chance alone gives.
        jensen_shannon: 0 to 1.
        wasserstein: in standard deviations; None for categories and constants.
        missing: share without a value.
        unseen: share of values that the reference does not have.
        worse: by how much a quality is worse.
        effective: as many independent rows say as much.
    """

    row: int
    at: str
    rows: int
    drift: bool
    reasons: tuple[str, ...] = ()
    test: str = ""
    statistic: float = 0.0
    p_value: float = 1.0
    psi: float = 0.0
    jensen_shannon: float = 0.0
    wasserstein: float | None = None
    missing: float = 0.0
    unseen: float = 0.0
    worse: float = 0.0
    effective: float = 0.0


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the rows by bin, before and now.

    Attributes:
        edges: of a number's bins, one more than shares.
        labels: of a category's values.
        before: in the reference.
        now: in the windows of the drift, or in all.
    """

    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    before: tuple[float, ...] = ()
    now: tuple[float, ...] = ()


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one column.

    Attributes:
        side: ``input``, ``output`` or ``quality``.
        name: of the column; ``prediction``, ``probability`` and ``error`` on the other sides.
        kind: ``number`` or ``category``.
        state: ``drift`` now, drift that is ``over``, ``steady``, or ``unknown``: no row has a value.
        since_row: the row at which the drift began, as well as it can be told; None where there is none.
        since: when that row came; empty where nobody knows.
        until: the first row that was steady again, as a time if it is known; empty while it goes on.
        strongest: the window with the largest effect; of the drift, or of all where there is none.
        newest: the newest window.
        missing_before: share without a value in the reference.
        new_values: values of a category that the reference does not have, most frequent first.
        episodes: how many times it drifted.
        season: after how many windows the effect comes again; 0 where it does not.
        points: all windows, in order.
        picture: before and now.
    """

    side: str
    name: str
    kind: str
    state: State
    since_row: int | None = None
    since: str = ""
    until: str = ""
    strongest: Point | None = None
    newest: Point | None = None
    missing_before: float = 0.0
    new_values: tuple[str, ...] = ()
    episodes: int = 0
    season: int = 0
    points: tuple[Point, ...] = ()
    picture: Picture | None = None

    @property
    def title(self) -> str:
        """The name, with its side where it is no input."""
        return self.name if self.side == "input" else f"{self.name} ({self.side})"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A place at which the mean of a stream changed.

    Attributes:
        row: about where the change was.
        at: when that row came; empty where nobody knows.
        before: mean before it.
        after: mean after it.
        detector: ``adwin`` or ``page-hinkley``.
    """

    row: int
    at: str
    before: float
    after: float
    detector: str


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A column followed row by row, without a reference: what changed within the rows themselves."""

    side: str
    name: str
    changes: tuple[Change, ...] = ()


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """All columns of one version over a body of rows.

    Attributes:
        model: the name.
        version: the number.
        data: where the rows came from.
        rows: how many were looked at.
        windows: how many windows they were cut into.
        window: how long one is, in words.
        since: when the first row came; empty where nobody knows.
        until: when the last one came.
        columns: drift first, strongest first.
        streams: followed row by row.
        notes: what a reader must know.
        made_at: ISO 8601 in UTC.
        limits: what counted as drift.
    """

    model: str
    version: int
    data: str = ""
    rows: int = 0
    windows: int = 0
    window: str = ""
    since: str = ""
    until: str = ""
    columns: tuple[ColumnDrift, ...] = ()
    streams: tuple[Stream, ...] = ()
    notes: tuple[str, ...] = ()
    made_at: str = ""
    limits: Limits = Limits()

    @property
    def drifting(self) -> tuple[ColumnDrift, ...]:
        """Columns in drift now."""
        return tuple(column for column in self.columns if column.state == "drift")

    @property
    def share(self) -> float:
        """Share of the inputs that were judged which are in drift now."""
        judged = [column for column in self.columns if column.side == "input" and column.state != "unknown"]
        return sum(column.state == "drift" for column in judged) / len(judged) if judged else 0.0
