"""A turn of the loop as a page for people shows it. Pure: records in, what stands in the page out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from servable.registry.turns import TurnRecord, TurnState
from servable.training.measures import HIGHER_IS_BETTER
from servable.training.wording import TITLES, capital, gap_text, metric_text, moment_text, number, percent
from servable.updating.gate import Comparison, Favour, Gain
from servable.updating.options import UpdateOptions, restored
from servable.updating.plan import STEPS
from servable.workflows.rollout_outcomes import RolloutOutcome
from servable.workflows.rollout_page import moment, section, span_text

#: How a turn stands, in words, and the look of its chip.
STATES: dict[TurnState, tuple[str, str]] = {
    "running": ("not finished", "on"),
    "waiting": ("its rollout goes on", "on"),
    "promoted": ("took over", "good"),
    "registered": ("registered", "good"),
    "rolled_back": ("rolled back", "bad"),
    "refused": ("refused by the gate", ""),
    "failed": ("failed", "bad"),
}
_SIDES = {"input": "input", "output": "answer", "quality": "how wrong", "unused": "not used by the model"}
_DOUBT: dict[Favour, str] = {
    "present": "In doubt the present version stays.",
    "newer": "In doubt the newer version takes over.",
    "drift": "In doubt the newer version takes over where drift was found, else the present one stays.",
}


class Bar(NamedTuple):
    """A gain with its interval, in per cent of the scale of all gains that stand together.

    Attributes:
        left: where the interval begins.
        width: how long it is.
        at: where the gain stands.
        zero: where no gain stands.
        tone: ``good`` above zero for certain, ``bad`` below, else empty.
    """

    left: float
    width: float
    at: float
    zero: float
    tone: str


class GainRow(NamedTuple):
    """Both versions on the same rows, in words."""

    name: str
    rows: int
    champion: str
    challenger: str
    gain: str
    span: str
    bar: Bar


class TurnShown(NamedTuple):
    """What a page says of one turn; what it never came to is empty.

    Attributes:
        turn: its record.
        state: how it stands, in words.
        tone: the look of that.
        verdict: what came of it, in one or two sentences.
        reason: why it was due.
        champion: the version before.
        version: the new one; None where none was registered.
        drift: what drifted when it began: column, what it is, since when, how far.
        quality: what had got worse when it began, in one sentence.
        rows: what was collected, as pairs of a name and a value.
        metric: what was compared, for people.
        gains: on all rows and on each slice.
        reasons: of the gate, and whether it let the version pass; None where it was not asked.
        passed: as above.
        rules: what the gate asked for.
        made: how the new version was made, as pairs of a name and a value.
        steps: each step with its seconds.
        rollout: the rollout that followed; None where there was none.
        followed: what ``rollout_page.section`` says of it.
    """

    turn: TurnRecord
    state: str
    tone: str
    verdict: str
    reason: str
    champion: int
    version: int | None
    drift: tuple[tuple[str, str, str, str], ...]
    quality: str
    rows: tuple[tuple[str, str], ...]
    metric: str
    gains: tuple[GainRow, ...]
    reasons: tuple[str, ...]
    passed: bool | None
    rules: str
    made: tuple[tuple[str, str], ...]
    steps: tuple[tuple[str, float], ...]
    rollout: RolloutOutcome | None
    followed: dict[str, Any]


def shown(turn: TurnRecord, rollout: RolloutOutcome | None = None) -> TurnShown:
    """Everything that a page says of a turn."""
    record, options = turn.record, restored(turn.record["options"])
    state, tone = STATES[turn.state]
    compared = comparison_of(turn)
    gate = record.get("gate", {})
    slower = record.get("optimise", {}).get("timing", ()) if turn.state == "refused" else ()
    return TurnShown(
        turn=turn,
        state=state,
        tone=tone,
        verdict=verdict(turn, compared),
        reason=capital(str(record["reason"])),
        champion=int(record["champion"]),
        version=record.get("register", {}).get("version"),
        drift=tuple(_drifting(column) for column in record.get("drifting", ())),
        quality=str(record.get("signs", {}).get("quality", "")),
        rows=_rows(record.get("collect")),
        metric=TITLES[compared.metric] if compared is not None else "",
        gains=gains(compared),
        reasons=(*gate.get("reasons", ()), *slower),
        passed=None if not gate else bool(gate["passed"]) and not slower,
        rules=_rules(options, compared),
        made=_made(record, options),
        steps=tuple((step, float(record[step]["seconds"])) for step in STEPS if step in record),
        rollout=rollout,
        followed={} if rollout is None else section(rollout),
    )


def comparison_of(turn: TurnRecord) -> Comparison | None:
    """Champion and challenger as the turn measured them; None where it did not come so far."""
    found = turn.record.get("evaluate")
    return None if found is None else msgspec.convert(found, Comparison)


def verdict(turn: TurnRecord, compared: Comparison | None) -> str:
    """What came of a turn, in one or two sentences."""
    record = turn.record
    version, before = record.get("register", {}).get("version"), record["champion"]
    said, how = str(record.get("said", "")), record.get("deploy", {}).get("deploy", "rollout")
    first = {
        "promoted": f"Version {version} took over from version {before}.",
        "rolled_back": f"Version {version} was sent back by its rollout; version {before} answers all.",
        "refused": f"The gate refused the new version; version {before} stays.",
        "failed": f"The turn failed and nothing was changed: {said}",
        "running": f"The turn is not finished; it came to {turn.step or 'its beginning'}.",
        "waiting": f"Version {version} passed the gate, and its {how} goes on.",
    }.get(turn.state, f"{said}." if said else "")
    return " ".join(part for part in (first, _measured(compared)) if part)


def _measured(compared: Comparison | None) -> str:
    if compared is None:
        return ""
    whole, name = compared.whole, compared.metric
    return (
        f"{TITLES[name]} went from {metric_text(whole.champion, name)} to "
        f"{metric_text(whole.challenger, name)} on the newest {whole.rows:,} rows, which neither learned "
        f"from: a gain of {gain_text(whole.gain, name)} (95 % interval {gain_text(whole.low, name)} to "
        f"{gain_text(whole.high, name)})."
    )


def gain_text(gain: float, metric: str) -> str:
    """A gain with its sign."""
    sign = "+" if gain > 0 else "−" if gain < 0 else "±"
    return f"{sign}{gap_text(abs(gain), metric)}"


def gains(compared: Comparison | None) -> tuple[GainRow, ...]:
    """The gain on all rows and on each slice, on one scale."""
    if compared is None:
        return ()
    rows = (compared.whole, *compared.slices)
    bars = bars_of(rows)
    name = compared.metric
    return tuple(
        GainRow(
            name="all rows" if each is compared.whole else each.name,
            rows=each.rows,
            champion=metric_text(each.champion, name),
            challenger=metric_text(each.challenger, name),
            gain=gain_text(each.gain, name),
            span=f"{gain_text(each.low, name)} to {gain_text(each.high, name)}",
            bar=bar,
        )
        for each, bar in zip(rows, bars, strict=True)
    )


def bars_of(rows: Sequence[Gain]) -> tuple[Bar, ...]:
    """Gains as bars on one scale, which holds all of them and zero."""
    low = min([0.0, *(each.low for each in rows), *(each.gain for each in rows)])
    high = max([0.0, *(each.high for each in rows), *(each.gain for each in rows)])
    size = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / size, 1)

    return tuple(
        Bar(
            left=place(each.low),
            width=round(place(each.high) - place(each.low), 1),
            at=place(each.gain),
            zero=place(0.0),
            tone="good" if each.low > 0 else "bad" if each.high < 0 else "",
        )
        for each in rows
    )


def took_s(turn: TurnRecord) -> float:
    """Seconds that its steps took."""
    return sum(float(turn.record[step].get("seconds", 0.0)) for step in STEPS if step in turn.record)


def cards(found: TurnShown) -> list[tuple[str, str, str]]:
    """Title, value and a line below for each headline number of a turn."""
    made = []
    if found.gains:
        whole = found.gains[0]
        made.append((f"{found.metric}, new", whole.challenger, f"before {whole.champion}"))
        value, _, unit = whole.gain.partition(" ")
        made.append((f"Gain, {unit}" if unit else "Gain", value, f"95 %: {whole.span}"))
        made.append(("Rows measured on", f"{whole.rows:,}", "the newest ones"))
    collected = found.turn.record.get("collect")
    if collected is not None:
        below = f"{collected['traffic']:,} of labelled traffic"
        made.append(("Rows collected", f"{collected['rows']:,}", below))
    made.append(("Took", span_text(took_s(found.turn)), found.state))
    return made


def _drifting(column: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Name, what it is, since when, and how far it is off."""
    since = moment_text(str(column.get("since") or ""))
    if not since and column.get("since_row") is not None:
        since = f"row {column['since_row']:,}"
    effect = float(column.get("effect", 0.0))
    far = f"{effect * 100:.1f} points worse" if column.get("side") == "quality" else f"{effect:.2f}"
    return str(column["name"]), _SIDES.get(str(column.get("side")), ""), since, far


def _rows(said: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    if said is None:
        return ()
    found = [
        ("First training", f"{said['original']:,} rows"),
        ("Labelled traffic", f"{said['traffic']:,} rows"),
        ("New to the version before", f"{said['unseen']:,} rows"),
        ("Learned from, to be measured", f"{said['learned']:,} rows"),
        ("Measured on", f"the newest {said['held']:,} rows"),
        ("Asked until", moment_text(str(said["until"]))),
        ("Labelled until", moment_text(str(said["labelled_until"]))),
    ]
    if said["strange"]:
        found.append(("Left out", f"{said['strange']:,} labels that are no answer of the target's type"))
    return tuple((name, value) for name, value in found if value)


def _rules(options: UpdateOptions, compared: Comparison | None) -> str:
    """What the gate asks for, in two sentences."""
    gate, name = options.gate, compared.metric if compared is not None else options.gate.metric
    wanted = (
        "better" if gate.margin == 0
        else f"better by more than {number(gate.margin)}" if gate.margin > 0
        else f"worse by no more than {number(-gate.margin)}"
    )  # fmt: skip
    slices = f", not worse on {', '.join(gate.slices)}" if gate.slices else ""
    what = TITLES.get(name, "its metric")
    return (
        f"{what} {wanted} with {percent(gate.confidence, 0)} confidence{slices}, and at most {gate.slower:g} "
        f"times as long for one row. {_DOUBT[gate.favour]}"
    )


def _made(record: Mapping[str, Any], options: UpdateOptions) -> tuple[tuple[str, str], ...]:
    """How the new version was made, as far as it was."""
    found = []
    trained, optimised = record.get("train"), record.get("optimise")
    if trained is not None:
        how = "learned on from" if trained.get("online") else "on"
        found.append(("Model", f"{trained['estimator']} {how} {trained['rows']:,} rows"))
        params = trained.get("params") or {}
        if params:
            found.append(("Parameters", ", ".join(f"{name} {value}" for name, value in params.items())))
    window = options.window
    if window.rows:
        found.append(("Window", f"the newest {window.rows:,} rows"))
    if window.half_life:
        found.append(("Age", f"a row counts half as much as one {window.half_life:,} rows newer"))
    if optimised is not None:
        found.append(("Serves as", str(optimised["serving"])))
        found.append(("Timed", "; ".join(optimised["timing"])))
        again = "with the newest rows too" if optimised["refitted"] else "no; it serves as it was measured"
        found.append(("Fitted once more", again))
    if "register" in record:
        found.append(("Package", str(record["register"]["package"])[:19]))
    return tuple(found)


def better(metric: str) -> str:
    """Which direction of a metric is better."""
    return "higher is better" if HIGHER_IS_BETTER[metric] else "lower is better"


def lasted(turn: TurnRecord) -> str:
    """From its beginning to its end; empty while it goes on."""
    if not turn.ended_at:
        return ""
    return span_text((moment(turn.ended_at) - moment(turn.started_at)).total_seconds())
