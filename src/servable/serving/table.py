"""The immutable table of all models at one moment."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from servable.errors import ConflictError, ModelNotFound, ModelNotReady
from servable.serving.live import Cold, Live, ModelStatus


class Table(NamedTuple):
    """All that is served at one moment; replaced whole, never changed.

    Attributes:
        targets: reference to live model: ``name``, ``name:3``, ``name@alias``.
        models: the live version of each name.
        default: answers requests that name no model; None when there is none, several, or it is cold.
        cold: reference to cold model, ``""`` among them when the default is cold.
        statuses: every wanted version, by name.
    """

    targets: Mapping[str, Live] = MappingProxyType({})
    models: Mapping[str, Live] = MappingProxyType({})
    default: Live | None = None
    cold: Mapping[str, Cold] = MappingProxyType({})
    statuses: tuple[ModelStatus, ...] = ()

    @property
    def default_name(self) -> str:
        """The model that requests without a name mean; empty when there is none."""
        if self.default is not None:
            return self.default.model
        return self.cold[""].model if "" in self.cold else ""

    @property
    def names(self) -> list[str]:
        """The names that are served, loaded or not."""
        return [*self.models, *sorted({cold.model for cold in self.cold.values()})]

    def warmed(self, live: Live, cold: Cold) -> "Table":
        """The table in which a model has taken the place of its cold self."""
        targets, models, colds = dict(self.targets), dict(self.models), dict(self.cold)
        for reference in live.wanted.references:
            targets[reference] = live
            colds.pop(reference, None)
        models[live.model] = live
        default = live if colds.get("") is cold else self.default
        if default is live:
            del colds[""]
        return Table(targets, models, default, colds, self._with(live.status()))

    def cooled(self, pairs: Iterable[tuple[Live, Cold]]) -> "Table":
        """The table in which models are cold again."""
        targets, models, colds = dict(self.targets), dict(self.models), dict(self.cold)
        default, statuses = self.default, self.statuses
        for live, cold in pairs:
            for reference in live.wanted.references:
                targets.pop(reference, None)
                colds[reference] = cold
            models.pop(live.model, None)
            if default is live:
                default = None
                colds[""] = cold
            statuses = self._with(cold.status(), statuses)
        return Table(targets, models, default, colds, statuses)

    def noted(self, cold: Cold) -> "Table":
        """The table that shows what became of a cold model."""
        return self._replace(statuses=self._with(cold.status()))

    def _with(
        self, status: ModelStatus, statuses: tuple[ModelStatus, ...] | None = None
    ) -> tuple[ModelStatus, ...]:
        key = (status.model, status.version)
        return tuple(
            status if (other.model, other.version) == key else other
            for other in (self.statuses if statuses is None else statuses)
        )


def table_of(lives: Iterable[Live], failures: Iterable[ModelStatus], colds: Iterable[Cold] = ()) -> Table:
    """The table of these models.

    Args:
        lives: several versions of one name may be among them; the highest answers to the bare name.
        failures: wanted versions that are not live and are not loaded on demand.
        colds: wanted versions that are loaded on demand; no live one has the same name.
    """
    targets: dict[str, Live] = {}
    models: dict[str, Live] = {}
    cold: dict[str, Cold] = {}
    marked: Live | Cold | None = None
    ordered = sorted(lives, key=lambda live: (live.model, live.version))
    colds = list(colds)
    for live in ordered:
        models[live.model] = live
        targets.update(dict.fromkeys(live.wanted.references, live))
        marked = live if live.wanted.default else marked
    for each in colds:
        cold.update(dict.fromkeys(each.wanted.references, each))
        marked = each if each.wanted.default else marked
    if len(models) + len(colds) == 1:
        marked = next(iter(models.values())) if models else colds[0]
    if isinstance(marked, Cold):
        cold[""] = marked
    statuses = sorted(
        [*(live.status() for live in ordered), *(each.status() for each in colds), *failures],
        key=lambda status: (status.model, status.version),
    )
    default = marked if isinstance(marked, Live) else None
    return Table(targets, models, default, cold, tuple(statuses))


def default_of(table: Table, *, settled: bool) -> Live:
    """The model that requests without a name mean.

    Args:
        table: of all models.
        settled: whether every wanted version was tried.

    Raises:
        ModelNotReady: nothing is loaded yet.
        ModelNotFound: nothing is served.
        ConflictError: several models are served, and none is the default.
    """
    if table.default is not None:
        return table.default
    names = table.names
    if not settled or (table.statuses and not names):
        raise ModelNotReady("The models are still being loaded or failed to load; see /readyz.")
    if not names:
        raise ModelNotFound("No model is served here; deploy one with: servable deploy NAME.")
    choices = ", ".join(f"/models/{name}/predict" for name in names[:10])
    raise ConflictError(
        f"Several models are served and none is the default; name one: {choices}; "
        "or choose the default with: servable deploy NAME --default."
    )
