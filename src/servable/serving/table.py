"""The immutable table of all models at one moment."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from msgspec import structs

from servable.errors import ConflictError, ModelNotFound, ModelNotReady, VersionNotFound
from servable.protocols.native_schema import close_to
from servable.serving.live import Cold, Live, ModelStatus
from servable.serving.split import Split

#: Versions have no more digits than this.
_DIGITS = 10


class Table(NamedTuple):
    """All that is served at one moment; replaced whole, never changed.

    Attributes:
        targets: reference to live model: ``name``, ``name:3``, ``name@alias``. A name alone stands for the
            version that answers whatever no other has a share of.
        models: the same by name alone.
        default: answers requests that name no model; None when there is none, several, or it is cold.
        cold: reference to cold model, ``""`` among them when the default is cold.
        statuses: every wanted version, and those that are kept warm, by name.
        splits: name to the versions among which its requests are divided, ``""`` among them when the default
            is divided; nothing for all others.
        warm: loaded without taking requests, for a rollback.
        failures: of ``statuses``, those of versions that are neither live nor loaded on demand.
    """

    targets: Mapping[str, Live] = MappingProxyType({})
    models: Mapping[str, Live] = MappingProxyType({})
    default: Live | None = None
    cold: Mapping[str, Cold] = MappingProxyType({})
    statuses: tuple[ModelStatus, ...] = ()
    splits: Mapping[str, Split] = MappingProxyType({})
    warm: tuple[Live, ...] = ()
    failures: tuple[ModelStatus, ...] = ()

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

    @property
    def complete(self) -> bool:
        """Whether every wanted model answers, if need be with the version before or after a cold start."""
        return all(status.model in self.models or status.model in self.cold for status in self.statuses)

    def versions(self, model: str) -> list[int]:
        """The live versions of a model."""
        return sorted({live.version for live in self.targets.values() if live.model == model})

    def warmed(self, live: Live, cold: Cold) -> "Table":
        """The table in which a model has taken the place of its cold self."""
        targets, models, colds = dict(self.targets), dict(self.models), dict(self.cold)
        for reference in (live.model, *live.wanted.references):
            targets[reference] = live
            colds.pop(reference, None)
        models[live.model] = live
        default = live if colds.get("") is cold else self.default
        if default is live:
            del colds[""]
        return self._replace(
            targets=targets, models=models, default=default, cold=colds, statuses=self._with(live.status())
        )

    def cooled(self, pairs: Iterable[tuple[Live, Cold]]) -> "Table":
        """The table in which models are cold again."""
        targets, models, colds = dict(self.targets), dict(self.models), dict(self.cold)
        default, statuses = self.default, self.statuses
        for live, cold in pairs:
            for reference in (live.model, *live.wanted.references):
                targets.pop(reference, None)
                colds[reference] = cold
            models.pop(live.model, None)
            if default is live:
                default = None
                colds[""] = cold
            statuses = self._with(cold.status(), statuses)
        return self._replace(targets=targets, models=models, default=default, cold=colds, statuses=statuses)

    def noted(self, cold: Cold) -> "Table":
        """The table that shows what became of a cold model."""
        return self._replace(statuses=self._with(cold.status()))

    def looked_after(self) -> "Table":
        """The table that shows where models are computed by now, see ``Live.looked_after``; often itself."""
        lives = dict.fromkeys((*self.targets.values(), *self.warm))
        moved = {live.key: live.status() for live in lives if live.looked_after()}
        if not moved:
            return self
        statuses = (
            structs.replace(
                each,
                device=now.device,
                device_reason=now.device_reason,
                example_seconds=now.example_seconds,
                memory_bytes=now.memory_bytes,
                accelerator_bytes=now.accelerator_bytes,
            )
            if (now := moved.get((each.model, each.version))) is not None
            else each
            for each in self.statuses
        )
        return self._replace(statuses=tuple(statuses))

    def without(self, gone: Iterable[Live]) -> "Table":
        """The table in which versions are not kept warm any more."""
        left = {live.key for live in gone}
        return self._replace(
            warm=tuple(live for live in self.warm if live.key not in left),
            statuses=tuple(each for each in self.statuses if (each.model, each.version) not in left),
        )

    def _with(
        self, status: ModelStatus, statuses: tuple[ModelStatus, ...] | None = None
    ) -> tuple[ModelStatus, ...]:
        key = (status.model, status.version)
        return tuple(
            status if (other.model, other.version) == key else other
            for other in (self.statuses if statuses is None else statuses)
        )


class Rows(NamedTuple):
    """What a table is made of.

    Attributes:
        lives: all that answer; several may have the same name.
        named: of each name, the version among them that answers whatever no other has a share of.
        failures: wanted versions that are not live and are not loaded on demand.
        colds: wanted versions that are loaded on demand; no live one has the same name.
        warm: loaded without taking requests, each with what is said of it.
    """

    lives: Iterable[Live]
    named: Mapping[str, Live]
    failures: Iterable[ModelStatus] = ()
    colds: Iterable[Cold] = ()
    warm: Mapping[Live, ModelStatus] = MappingProxyType({})


def table_of(rows: Rows) -> Table:
    """The table of these models."""
    models = dict(sorted(rows.named.items()))
    lives = sorted(rows.lives, key=lambda live: live.key)
    splits = {
        name: Split(own, [live for live in lives if live.model == name])
        for name, own in models.items()
        if own.wanted.traffic.shares
    }
    targets: dict[str, Live] = {}
    for live in lives:
        targets.update(dict.fromkeys(live.wanted.references, live))
    targets.update(models)
    cold: dict[str, Cold] = {}
    colds = list(rows.colds)
    for each in colds:
        cold.update(dict.fromkeys((each.model, *each.wanted.references), each))
    marked = _marked(models, colds)
    default = None
    if isinstance(marked, Cold):
        cold[""] = marked
    elif marked is not None:
        default = marked
        if marked.model in splits:
            splits[""] = splits[marked.model]
    found = [
        *(live.status(_share(live, models, splits)) for live in lives),
        *(each.status() for each in colds),
        *rows.failures,
        *rows.warm.values(),
    ]
    statuses = sorted(found, key=lambda status: (status.model, status.version))
    return Table(
        targets, models, default, cold, tuple(statuses), splits, tuple(rows.warm), tuple(rows.failures)
    )


def _marked(models: Mapping[str, Live], colds: list[Cold]) -> Live | Cold | None:
    """The model that requests without a name mean."""
    served: list[Live | Cold] = [*models.values(), *colds]
    if len(served) == 1:
        return served[0]
    marked = [each for each in served if each.wanted.default]
    return marked[-1] if marked else None


def _share(live: Live, models: Mapping[str, Live], splits: Mapping[str, Split]) -> float:
    """What part of its model's requests a live version answers."""
    split = splits.get(live.model)
    if split is None:
        return 1.0 if models.get(live.model) is live else 0.0
    return split.shares.get(live.version, 0.0)


def absent(table: Table, reference: str, *, settled: bool) -> Live:
    """What a reference means that is not in the table: the default model when it is empty, else an error.

    Args:
        table: of all models.
        reference: as the caller wrote it.
        settled: whether every wanted version was tried.

    Raises:
        ModelNotReady: it is wanted, and nothing of it is loaded yet.
        ModelNotFound: nothing of that name is served; lists close matches.
        VersionNotFound: the name is served, in another version.
        ConflictError: no reference, several models are served, and none is the default.
    """
    if not reference:
        return _default(table, settled)
    name = reference.partition("@")[0].partition(":")[0]
    other = table.models.get(name) or table.cold.get(name)
    if other is not None:
        _refuse(reference, table.versions(name) or [other.version])
    for status in table.statuses:
        if status.model == name:
            reason = (status.reason or status.state).rstrip(".")
            raise ModelNotReady(f"{name}:{status.version} is not ready: {reason}.")
    if not settled:
        raise ModelNotReady("The models are still being loaded; try again in a moment.")
    names = table.names
    hint = close_to(name, names).lstrip("; ")
    served = ", ".join(names[:10]) or "none"
    shown = name if len(name) <= 64 and name.isprintable() else "that name"
    raise ModelNotFound(
        f"No model {shown!r} is served here{f' ({hint})' if hint else ''}; served are: {served}."
    )


def wished(table: Table, reference: str, found: Live | Cold, wish: bytes) -> Live | Cold:
    """The version of a model that a caller's header names.

    Args:
        table: of all models.
        reference: of the model; one that names a version already means that one.
        found: what it finds.
        wish: the header's value.

    Raises:
        VersionNotFound: the model is not loaded in that version, or the reference means another.
    """
    model, said = found.model, wish.decode("latin-1").strip()
    if said.isascii() and said.isdecimal() and len(said) <= _DIGITS:
        number = int(said)
        if number == found.version:
            return found
        other = table.targets.get(f"{model}:{number}")
        if other is not None and reference in ("", model):
            return other
        if other is not None:
            raise VersionNotFound(
                f"{reference} is version {found.version}, and the header X-Servable-Version names {number}; "
                "name one of them."
            )
    versions = ", ".join(map(str, table.versions(model) or [found.version]))
    raise VersionNotFound(
        f"The header X-Servable-Version names a version of {model} that is not loaded here; "
        f"loaded are: {versions}."
    )


def _refuse(reference: str, versions: list[int]) -> NoReturn:
    name = reference.partition("@")[0].partition(":")[0]
    if len(versions) == 1:
        raise VersionNotFound(f"{reference} is not served here; the live version of {name} is {versions[0]}.")
    shown = ", ".join(map(str, versions))
    raise VersionNotFound(f"{reference} is not served here; the live versions of {name} are {shown}.")


def _default(table: Table, settled: bool) -> Live:
    """The model that requests without a name mean."""
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
