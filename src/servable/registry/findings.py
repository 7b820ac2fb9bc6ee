"""What is known of served versions by now: live quality, drift and the like, the newest of each kind.

Whoever finds something out replaces what was found before; servers show it in ``/metrics`` and people in
``status``. Servers read them with ``findings_reader``.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select

from servable.clock import Clock, timestamp
from servable.registry import tables
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

    def put(self, model: str, kind: str, values: Mapping[int, Mapping[str, Any]]) -> None:
        """Replace everything of one kind that is known of a model; servers look again soon.

        Args:
            model: its name.
            kind: what it is about.
            values: by version; versions that are not in it have none any more.
        """
        now = timestamp(self._clock.now())
        found = tables.findings
        rows = [
            {"model": model, "version": version, "kind": kind, "updated_at": now, "value": dict(value)}
            for version, value in values.items()
        ]
        with self._state.writing() as connection:
            connection.execute(delete(found).where(found.c.model == model, found.c.kind == kind))
            if rows:
                connection.execute(insert(found), rows)

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
