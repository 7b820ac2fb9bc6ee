"""A live model and a cold one, and what both were made for."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec

from servable.artifact.package import Outline, Package
from servable.artifact.signature import Signature
from servable.frameworks.base import STREAMS
from servable.monitoring.metrics import Meter
from servable.protocols.base import Codec, CodecLimits, Maker
from servable.registry.policy import Policy
from servable.registry.records import WHOLE, Traffic
from servable.runtime.batcher import Batcher
from servable.runtime.cache import NoCache, ResponseCache
from servable.runtime.executor import Executor
from servable.runtime.model import LoadedModel
from servable.runtime.waiting import Waiting
from servable.serving.preparing import Preparing
from servable.serving.taps import NO_TAP as NO_TAP
from servable.serving.taps import Tap as Tap

State = Literal["live", "cold", "loading", "failed", "warm"]
#: The policy of what nobody has wishes for.
NO_WISHES = Policy()
#: Name and version.
Key = tuple[str, int]
_tick = itertools.count(1).__next__


class Wanted(NamedTuple):
    """One version that should be live.

    Attributes:
        model: its name in the registry.
        version: which one.
        digest: of the package, its identity.
        default: whether requests that name no model go to it although there are others.
        aliases: the aliases of the model that point at this version.
        policy: the deployment's wishes.
        own: whether it is the deployment's own version, which answers whatever no other version has a
            share of.
        traffic: how the requests of the model are divided; the same for all of its versions.
    """

    model: str
    version: int
    digest: str
    default: bool = False
    aliases: tuple[str, ...] = ()
    policy: Policy = NO_WISHES
    own: bool = True
    traffic: Traffic = WHOLE

    @property
    def key(self) -> Key:
        """Name and version: no two that are wanted at once have the same."""
        return self.model, self.version

    @property
    def reference(self) -> str:
        """``name:version``."""
        return f"{self.model}:{self.version}"

    @property
    def references(self) -> tuple[str, ...]:
        """Every reference that means this very version, whatever the name alone means."""
        return (self.reference, *(f"{self.model}@{alias}" for alias in self.aliases))

    @property
    def divided(self) -> bool:
        """Whether other versions of the model answer too, or are compared with it."""
        return self.traffic != WHOLE

    @property
    def is_shadow(self) -> bool:
        """Whether it gets copies of what others answer, and is loaded so that it stands back behind them."""
        return self.traffic.shadow == self.version and not self.own

    def loads_like(self, other: "Wanted") -> bool:
        """Whether what was loaded for one serves the other as well: equal but for names and the like."""
        if (self.model, self.version, self.digest) != (other.model, other.version, other.digest):
            return False
        if self.is_shadow != other.is_shadow:
            return False
        return self.policy.loads_like(other.policy)


class Source(Protocol):
    """Desired state. Only ``moved`` is called from the event loop; only ``open`` from several threads."""

    def moved(self) -> bool:
        """Whether ``token`` may have changed since the last call; does not wait."""
        ...

    def token(self) -> object:
        """Changes whenever ``wanted`` may have changed; cheap."""
        ...

    def erasures(self) -> int:
        """A number that grows when somebody's data must be forgotten; asked when the token changed."""
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

    def outline(self, wanted: Wanted) -> Outline:
        """What a version's package says about itself, for documentation: read without verifying it.

        Raises:
            ServableError: it is not there or damaged.
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
        state: ``live``, ``cold`` (it is loaded when it is first called), ``loading``, ``failed``, or ``warm``
            (it answered before, and is kept loaded for a rollback).
        reason: one sentence when it is not live.
        share: what part of the model's requests it answers, from 0 to 1.
        mirrored: what part of them is copied to it for comparison, from 0 to 1.
        variant: the form that answers.
        placement: where it runs: ``inline``, ``thread`` or ``process``.
        placement_reason: one sentence: why there.
        batching_reason: one sentence when rows of several callers do not share runs.
        device: what computes it: ``cpu``, ``cuda:0`` ...
        device_reason: one sentence when that is not what the deployment asks for.
        example_seconds: median time of one row at load.
        memory_bytes: memory that it holds.
        accelerator_bytes: of the memory of its GPU, what it took when it was loaded.
        confinement: one line: what it is kept from; empty when it is not loaded.
        protections: each of what it is kept from, and how that is.
    """

    model: str
    version: int
    state: State
    reason: str = ""
    share: float = 0.0
    mirrored: float = 0.0
    variant: str = ""
    placement: str = ""
    placement_reason: str = ""
    batching_reason: str = ""
    device: str = ""
    device_reason: str = ""
    example_seconds: float = 0.0
    memory_bytes: int = 0
    accelerator_bytes: int = 0
    confinement: str = ""
    protections: Mapping[str, str] = {}


class Parts(NamedTuple):
    """What a live model answers with.

    Attributes:
        batcher: runs rows.
        codecs: by media type.
        cache: keeps answers, or nothing.
        meter: counts.
        limits: what codecs refuse.
        preparing: opens the files of a model that takes some; None for all others.
    """

    batcher: Batcher
    codecs: Mapping[str, Codec]
    cache: ResponseCache | NoCache
    meter: Meter
    limits: CodecLimits = CodecLimits()
    preparing: Preparing | None = None


class Live:
    """A model that takes requests. Belongs to one event loop.

    ``enter`` and ``leave`` stand around every request; after ``retire`` nobody finds it any more, and
    the batcher is closed when the last one left.
    """

    __slots__ = (
        "_idle",
        "batcher",
        "cache",
        "codec",
        "codecs",
        "in_flight",
        "limits",
        "loaded",
        "made",
        "meter",
        "model",
        "retired",
        "size",
        "submit",
        "tap",
        "used",
        "version",
        "wanted",
    )

    def __init__(self, wanted: Wanted, loaded: LoadedModel, parts: Parts) -> None:
        self.wanted = wanted
        self.model = wanted.model
        self.version = wanted.version
        self.loaded = loaded
        self.batcher, self.codecs, self.cache, self.meter, self.limits, preparing = parts
        #: Takes decoded requests: the batcher, or what prepares them for it.
        self.submit: Callable[[Waiting], None] = (self.batcher if preparing is None else preparing).submit
        #: Codecs of other formats, by what makes them.
        self.made: dict[Maker, Codec] = {}
        #: The native JSON one, which is asked for most.
        self.codec = parts.codecs["application/json"]
        #: Is told of every request that is over; may be replaced at any moment between two requests.
        self.tap: Tap = NO_TAP
        self.in_flight = 0
        #: Bytes that count against the memory budget.
        self.size = loaded.memory_bytes // loaded.sharers
        #: Grows with every request to any model, so that the one with the smallest was used longest ago.
        self.used = _tick()
        self.retired = False
        self._idle: asyncio.Event | None = None

    @property
    def key(self) -> Key:
        """Name and version."""
        return self.model, self.version

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self.loaded.signature

    @property
    def executor(self) -> Executor:
        """Where it runs; belongs to the batcher."""
        return self.loaded.executor

    @property
    def streams(self) -> bool:
        """Whether it can answer in pieces."""
        return bool(self.loaded.variant.options.get(STREAMS))

    @property
    def pinned(self) -> bool:
        """Whether it is never unloaded for others."""
        return self.wanted.policy.pinned

    def looked_after(self) -> bool:
        """Take over where the model is computed by now; whether that is elsewhere, or for another reason."""
        before, now = self.loaded, self.loaded.now()
        if now is before:
            return False
        self.loaded = now
        self.size = max(self.size + (now.memory_bytes - before.memory_bytes) // now.sharers, 0)
        return True

    def codec_by(self, maker: Maker) -> Codec:
        """The codec of a format for this model; made when it is first asked for."""
        codec = self.made.get(maker)
        if codec is None:
            codec = self.made[maker] = maker(self.signature, self.limits)
        return codec

    def enter(self) -> None:
        """A request begins. Between finding the model and this, the event loop must not turn."""
        self.in_flight += 1
        self.used = _tick()

    def leave(self) -> None:
        """A request ended."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()

    async def retire(self) -> None:
        """Wait until the last request left, then close the batcher. Nobody may enter any more."""
        self.retired = True
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await self.batcher.close()
        self.cache.clear()

    def status(self, share: float = 1.0) -> ModelStatus:
        """What a person sees of it.

        Args:
            share: what part of the model's requests it answers.
        """
        loaded, traffic = self.loaded, self.wanted.traffic
        return ModelStatus(
            model=self.model,
            version=self.version,
            state="live",
            share=share,
            mirrored=traffic.mirrored if traffic.shadow == self.version else 0.0,
            variant=loaded.variant.name,
            placement=loaded.placement,
            placement_reason=loaded.reason,
            batching_reason=loaded.batching.reason,
            device=loaded.device.device,
            device_reason=loaded.device.note,
            example_seconds=loaded.example_seconds,
            memory_bytes=self.size * loaded.sharers,
            accelerator_bytes=loaded.accelerator_bytes,
            confinement=loaded.confinement.summary,
            protections=loaded.confinement.told(),
        )


class Cold:
    """A wanted version that is loaded when it is first called. Belongs to one event loop."""

    __slots__ = ("_warm", "failure", "wanted")

    def __init__(self, wanted: Wanted, warm: "Callable[[Cold, str], Awaitable[Live]]") -> None:
        self.wanted = wanted
        #: Why the last attempt to load it failed; empty when there was none.
        self.failure = ""
        self._warm = warm

    @property
    def model(self) -> str:
        """Its name."""
        return self.wanted.model

    @property
    def version(self) -> int:
        """Its version."""
        return self.wanted.version

    @property
    def key(self) -> Key:
        """Name and version."""
        return self.wanted.key

    async def warm(self, reference: str = "") -> Live:
        """The model, loaded; many callers at once cause one load, and cancelling one disturbs no other.

        Await it directly and call ``enter`` at once: a task in between gives others time to unload it.

        Args:
            reference: what the caller asked for, looked up again when the deployment changed meanwhile;
                the model's name when empty.

        Raises:
            ModelNotReady: it cannot be loaded, and why.
            Overloaded: there is no room for it, because every other model is in use.
            ModelNotFound: it is no longer served.
            VersionNotFound: another version took its place meanwhile.
        """
        return await self._warm(self, reference)

    def status(self) -> ModelStatus:
        """What a person sees of it."""
        wanted = self.wanted
        if self.failure:
            return ModelStatus(
                model=wanted.model, version=wanted.version, state="failed", reason=self.failure
            )
        return ModelStatus(
            model=wanted.model,
            version=wanted.version,
            state="cold",
            share=1.0,
            reason="It is loaded when it is called.",
        )
