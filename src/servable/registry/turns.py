"""Turns of the loop that makes the next version of a model, as rows: what was done, and how far it came."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, NotFoundError
from servable.registry import tables
from servable.registry.models import missing_model
from servable.registry.state import State

#: ``running``: steps are left. ``waiting``: a rollout that it began goes on. The others are ends: the new
#: version took over, was sent back by its rollout, was registered and left alone, did not pass the gate, or a
#: step failed.
TurnState = Literal["running", "waiting", "promoted", "rolled_back", "registered", "refused", "failed"]
#: States of a turn that is not over.
OPEN: tuple[TurnState, ...] = ("running", "waiting")


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One turn.

    Attributes:
        id: the number, unique in the registry.
        model: whose.
        state: how it stands.
        step: the last step that was finished; empty before the first.
        started_at: ISO 8601 in UTC.
        ended_at: the same; empty while it is not over.
        record: what is known of it, step by step; JSON-able.
    """

    id: int
    model: str
    state: TurnState
    step: str
    started_at: str
    ended_at: str
    record: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.state not in OPEN


class Turns:
    """The turns of one registry. Safe to share between threads and processes.

    Every method is one transaction; all of them raise ``StorageFailed`` or ``StorageFull`` when the database
    does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def begin(self, model: str, record: Mapping[str, Any]) -> TurnRecord:
        """Begin a turn.

        Args:
            model: whose.
            record: what is known so far.

        Raises:
            ModelNotFound: there is no such model.
            ConflictError: a turn of this model is not over.
        """
        table = tables.turns
        with self._state.aside() as connection:
            if not connection.execute(
                select(tables.models.c.name).where(tables.models.c.name == model)
            ).first():
                raise missing_model(connection, model)
            present = _unfinished(connection, model)
            if present is not None:
                raise ConflictError(
                    f"Turn {present.id} of {model} is not over; run servable update {model} to go on with it."
                )
            values: dict[str, Any] = {
                "model": model,
                "state": "running",
                "step": "",
                "started_at": timestamp(self._clock.now()),
                "ended_at": "",
                "record": dict(record),
            }
            made = connection.execute(insert(table).values(values)).inserted_primary_key
            return TurnRecord(id=int(made[0]) if made else 0, **values)

    def advance(
        self, turn: TurnRecord, record: Mapping[str, Any], *, step: str = "", state: TurnState = "running"
    ) -> TurnRecord:
        """Keep the outcome of a step, or the end of the turn. When this returns, it is durable.

        Args:
            turn: as it was.
            record: everything that is known of it now.
            step: the step that was finished; empty leaves it as it was.
            state: how the turn stands after it.

        Raises:
            ConflictError: somebody else changed the turn meanwhile.
        """
        table = tables.turns
        values: dict[str, Any] = {
            "step": step or turn.step,
            "state": state,
            "record": dict(record),
            "ended_at": "" if state in OPEN else timestamp(self._clock.now()),
        }
        with self._state.aside() as connection:
            changed = connection.execute(
                update(table)
                .where(table.c.id == turn.id, table.c.step == turn.step, table.c.state == turn.state)
                .values(values)
            ).rowcount
            if changed != 1:
                raise ConflictError(
                    f"Turn {turn.id} of {turn.model} was taken over by somebody else; nothing was done here."
                )
        return msgspec.structs.replace(turn, **values)

    def unfinished(self, model: str) -> TurnRecord | None:
        """The turn of a model that is not over; None if there is none."""
        with self._state.reading() as connection:
            return _unfinished(connection, model)

    def get(self, model: str, number: int) -> TurnRecord:
        """A turn of a model.

        Raises:
            NotFoundError: it has no such turn.
        """
        table = tables.turns
        with self._state.reading() as connection:
            row = connection.execute(
                select(table).where(table.c.model == model, table.c.id == number)
            ).first()
        if row is None:
            raise NotFoundError(
                f"{model} has no turn {number}; servable update {model} --history lists its turns."
            )
        return _turn(row)

    def newest(self, model: str, count: int = 20) -> tuple[TurnRecord, ...]:
        """The last turns of a model, the newest first."""
        table = tables.turns
        wanted = select(table).where(table.c.model == model).order_by(table.c.id.desc()).limit(count)
        with self._state.reading() as connection:
            return tuple(_turn(row) for row in connection.execute(wanted))


def _unfinished(connection: Connection, model: str) -> TurnRecord | None:
    table = tables.turns
    wanted = select(table).where(table.c.model == model, table.c.state.in_(OPEN))
    row = connection.execute(wanted.order_by(table.c.id.desc())).first()
    return None if row is None else _turn(row)


def _turn(row: Row[Any]) -> TurnRecord:
    return TurnRecord(**row._mapping)
