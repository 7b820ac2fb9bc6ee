"""A live model, and the immutable table of all that are live at one moment."""

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

import msgspec

from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.monitoring.metrics import Meter
from servable.protocols.base import Codec
from servable.runtime.model import LoadedModel

State = Literal["live", "loading", "failed"]


class Wanted(NamedTuple):
    """One version that should be live.

    Attributes:
        model: its name in the registry.
        version: which one.
        digest: of the package, its identity.
        default: whether requests that name no model go to it although there are others.
        aliases: the aliases of the model that point at this version.
    """

    model: str
    version: int
    digest: str
    default: bool = False
    aliases: tuple[str, ...] = ()


class Source(Protocol):
    """Desired state. All calls come from one thread at a time, not from the event loop."""

    def token(self) -> object:
        """Changes whenever ``wanted`` may have changed; cheap."""
        ...

    def wanted(self) -> tuple[Wanted, ...]:
        """Every version that should be live.

        Raises:
            ServableError: the state cannot be read now.
        """
        ...

    def open(self, wanted: Wanted) -> Package:
        """The verified package of a wanted version.

        Raises:
            ServableError: it is not there, damaged, or was changed.
        """
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one wanted version.

    Attributes:
        model: name.
        version: version.
        state: ``live``, ``loading``, or ``failed``.
        reason: one sentence when it is not live.
        variant: the form that answers.
        placement: where it runs: ``inline`` or ``thread``.
        placement_reason: one sentence: why there.
        example_seconds: median time of one row at load.
    """

    model: str
    version: int
    state: State
    reason: str = ""
    variant: str = ""
    placement: str = ""
    placement_reason: str = ""
    example_seconds: float = 0.0


class Live:
    """A model that takes requests. Belongs to one event loop.

    ``enter`` and ``leave`` stand around every request; after ``retire`` nobody finds it any more, and
    ``drained`` ends when the last one left.
    """

    __slots__ = ("_idle", "codec", "executor", "in_flight", "loaded", "meter", "model", "version", "wanted")

    def __init__(self, wanted: Wanted, loaded: LoadedModel, codec: Codec, meter: Meter) -> None:
        self.wanted = wanted
        self.model = wanted.model
        self.version = wanted.version
        self.loaded = loaded
        self.executor = loaded.executor
        self.codec = codec
        self.meter = meter
        self.in_flight = 0
        self._idle: asyncio.Event | None = None

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self.loaded.signature

    def enter(self) -> None:
        """A request begins."""
        self.in_flight += 1

    def leave(self) -> None:
        """A request ended."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()

    async def retire(self) -> None:
        """Wait until the last request left, then close the executor. Nobody may enter any more."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await self.executor.close()

    def status(self) -> ModelStatus:
        """What a person sees of it."""
        loaded = self.loaded
        return ModelStatus(
            model=self.model,
            version=self.version,
            state="live",
            variant=loaded.variant.name,
            placement=loaded.placement,
            placement_reason=loaded.reason,
            example_seconds=loaded.example_seconds,
        )


class Table(NamedTuple):
    """All that is live at one moment; replaced whole, never changed.

    Attributes:
        targets: reference to model: ``name``, ``name:3``, ``name@alias``.
        models: the live version of each name.
        default: answers requests that name no model; None when there is none or several.
        statuses: every wanted version, live or not.
    """

    targets: Mapping[str, Live] = MappingProxyType({})
    models: Mapping[str, Live] = MappingProxyType({})
    default: Live | None = None
    statuses: tuple[ModelStatus, ...] = ()


def table_of(lives: Iterable[Live], failures: Iterable[ModelStatus]) -> Table:
    """The table of these models.

    Args:
        lives: several versions of one name may be among them; the highest answers to the bare name.
        failures: wanted versions that are not live.
    """
    targets: dict[str, Live] = {}
    models: dict[str, Live] = {}
    defaults: list[Live] = []
    ordered = sorted(lives, key=lambda live: (live.model, live.version))
    for live in ordered:
        models[live.model] = live
        targets[live.model] = live
        targets[f"{live.model}:{live.version}"] = live
        for alias in live.wanted.aliases:
            targets[f"{live.model}@{alias}"] = live
        if live.wanted.default:
            defaults.append(live)
    default = next(iter(models.values())) if len(models) == 1 else (defaults[-1] if defaults else None)
    statuses = sorted(
        [*(live.status() for live in ordered), *failures], key=lambda status: (status.model, status.version)
    )
    return Table(MappingProxyType(targets), MappingProxyType(models), default, tuple(statuses))
