"""What is known of served versions by now: live quality, drift and the like, the newest of each kind.

Whoever finds something out replaces what was found before; servers show it in ``/metrics`` and people in
``status``. Servers read them with ``findings_reader``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from servable.clock import Clock, timestamp
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.records import Finding
from servable.registry.state import State


class Findings:
    """The findings of one registry. Safe to share between threads and processes.

    Every method is one transaction. All of them raise ``StorageFailed`` or ``StorageFull`` when the
    database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def put(
        self,
        model: str,
        kind: str,
        values: Mapping[int, Mapping[str, Any]],
        *,
        told: Sequence[str] = (),
    ) -> None:
        """Replace everything of one kind that is known of a model; servers look again soon.

        Args:
            model: its name.
            kind: what it is about.
            values: by version; versions that are not in it have none any more.
            told: names of values of which changes are told in the audit log, as changes of what somebody
                decided are, and findings of measurements are not.
        """
        now = timestamp(self._clock.now())
        found = tables.findings
        rows = [
            {"model": model, "version": version, "kind": kind, "updated_at": now, "value": dict(value)}
            for version, value in values.items()
        ]
        with self._state.writing() as connection:
            if told:
                self._tell(connection, model, kind, values, told)
            connection.execute(delete(found).where(found.c.model == model, found.c.kind == kind))
            if rows:
                connection.execute(insert(found), rows)

    def _tell(
        self,
        connection: Connection,
        model: str,
        kind: str,
        values: Mapping[int, Mapping[str, Any]],
        told: Sequence[str],
    ) -> None:
        found = tables.findings
        rows = connection.execute(
            select(found.c.version, found.c.value).where(found.c.model == model, found.c.kind == kind)
        ).all()
        before = {row.version: {name: row.value.get(name) for name in told} for row in rows}
        after = {version: {name: value.get(name) for name in told} for version, value in values.items()}
        if before != after:
            details = {str(version): value for version, value in after.items()}
            written(connection, self._clock, f"{kind}.set", model=model, values=details)

    def of(self, kind: str, model: str | None = None) -> tuple[Finding, ...]:
        """Everything of one kind, by model and version.

        Args:
            kind: what it is about.
            model: of this one alone; None for all.
        """
        found = tables.findings
        wanted = select(found).where(found.c.kind == kind).order_by(found.c.model, found.c.version)
        if model is not None:
            wanted = wanted.where(found.c.model == model)
        with self._state.reading() as connection:
            return tuple(Finding(*row) for row in connection.execute(wanted).all())
