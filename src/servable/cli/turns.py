"""Turns of the loop as tables. Pure: a record in, something to print out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape

from servable.cli.cells import duration, number, plain_table

if TYPE_CHECKING:
    from servable.registry.turns import TurnRecord
    from servable.updating.update import UpdateOutcome

#: The steps whose duration a person is shown, and what is told of each.
_STEPS = ("collect", "train", "evaluate", "gate", "optimise", "register", "deploy")
_COLOURS = {"promoted": "green", "registered": "green", "refused": "yellow", "failed": "red"}


def updated(outcome: "UpdateOutcome") -> Iterator[RenderableType]:
    """What came of asking for an update."""
    if outcome.turn is None:
        yield f"No turn is due for {escape(outcome.model)}: {escape(outcome.reason)}."
        return
    yield from made(outcome.turn)


def made(turn: "TurnRecord") -> Iterator[RenderableType]:
    """One turn: why, step by step, and what came of it."""
    yield f"Turn {turn.id} of {escape(turn.model)}, because: {escape(str(turn.record.get('reason', '')))}"
    table = plain_table("", "step", "outcome", "took", right=["took"])
    for step in _STEPS:
        said = turn.record.get(step)
        if said is not None:
            table.add_row(step, escape(told(step, said)), duration(said.get("seconds")))
    yield table
    said = turn.record.get("said") or f"it came to {turn.step or 'its beginning'}"
    yield f"{_state(turn.state)}: {escape(str(said))}"


def history(turns: "Sequence[TurnRecord]") -> Iterator[RenderableType]:
    """The last turns, the newest first."""
    if not turns:
        yield "There was no turn yet."
        return
    columns = ("turn", "began", "because", "rows", "metric", "before", "after", "state", "what came of it")
    table = plain_table("", *columns, right=["turn", "rows", "before", "after"])
    for turn in turns:
        whole = turn.record.get("evaluate", {}).get("whole", {})
        table.add_row(
            str(turn.id),
            turn.started_at,
            escape(str(turn.record.get("reason", ""))),
            str(turn.record.get("collect", {}).get("rows", "-")),
            str(turn.record.get("evaluate", {}).get("metric", "-")),
            number(whole.get("champion")),
            number(whole.get("challenger")),
            _state(turn.state),
            escape(str(turn.record.get("said", turn.step and f"after {turn.step}"))),
        )
    yield table


def told(step: str, said: dict[str, Any]) -> str:
    """What a step came to, in a few words."""
    if step == "collect":
        strange = f", {said['strange']} labels left out" if said["strange"] else ""
        return (
            f"{said['original']} original rows, {said['traffic']} of labelled traffic; "
            f"{said['held']} held out{strange}"
        )
    if step == "train":
        return f"{said['estimator']} on {said['rows']} rows"
    if step == "evaluate":
        whole = said["whole"]
        return (
            f"{said['metric']} {number(whole['champion'])} -> {number(whole['challenger'])}, "
            f"gain {whole['gain']:+.4f} ({whole['low']:+.4f} to {whole['high']:+.4f})"
        )
    if step == "gate":
        return ("passed" if said["passed"] else "not passed") + f": {'; '.join(said['reasons'])}"
    if step == "optimise":
        return f"{said['serving']} serves; {'; '.join(said['timing'])}"
    if step == "register":
        return f"version {said['version']}"
    return str(said.get("deploy", ""))


def _state(state: str) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state
