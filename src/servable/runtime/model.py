"""From a package to something that answers: load, warm up, check itself, choose where to run."""

import math
import os
import time
from concurrent.futures import Executor as Pool
from typing import NamedTuple

import msgspec

from servable.artifact.manifest import (
    ANSWERS_FILE,
    EVALUATION_FILE,
    PROFILE_FILE,
    REPORT_FILE,
    SAMPLE_FILE,
    SELF_CHECK_FILE,
    SIGNATURE_FILE,
    TRUTH_FILE,
    Manifest,
    Variant,
)
from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable
from servable.frameworks import lookup
from servable.frameworks.accelerators import Before
from servable.frameworks.base import EXECUTES, MADE_FROM, MIXES, NETWORK, PROGRAMS, Predictor
from servable.frameworks.devices import ON_GPUS, PROCESSOR, on_device, placed_of
from servable.frameworks.devices import Placed as Device
from servable.monitoring.metrics import Meter
from servable.registry.policy import Policy
from servable.runtime.batchable import Batching, as_declared, batching_elsewhere, batching_of
from servable.runtime.confinement import (
    UNKNOWN,
    USUAL,
    Confinement,
    Mode,
    Statement,
    stated,
    stated_here,
)
from servable.runtime.executor import Executor, InlineExecutor, ThreadExecutor, run_batch
from servable.runtime.footprint import give_back, resident_bytes
from servable.runtime.framing import Share, Standing
from servable.runtime.load_thread import Bound, bounded
from servable.runtime.pace import HURRIED, Pace
from servable.runtime.placement import Placed, found_here, place
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor
from servable.runtime.rehearsal import example_arrays, rehearse
from servable.runtime.sharing import ALONE, Sharing
from servable.runtime.spawning import Spawned, Start

#: Most rows in one batch, unless the policy says otherwise.
MOST_ROWS = 1024
#: Seconds that a keeper may need besides starting a process.
_BESIDE_START_S = 15.0
#: Seconds between two signs of life of a process that runs only where nobody else wants the processor.
_BEHIND_HEARTBEAT_S = 10.0
#: Files of a package that no variant is loaded from.
_RECORDS = frozenset(
    {
        SIGNATURE_FILE,
        EVALUATION_FILE,
        REPORT_FILE,
        PROFILE_FILE,
        SAMPLE_FILE,
        ANSWERS_FILE,
        TRUTH_FILE,
        SELF_CHECK_FILE,
    }
)


class LoadedModel(NamedTuple):
    """A variant that has answered its own example and waits for requests.

    Attributes:
        package: what it was loaded from.
        signature: the package's.
        variant: the form that was loaded.
        executor: where it runs, open; close it to give everything back.
        placement: ``inline``, ``thread`` or ``process``.
        reason: one sentence: why there.
        batching: how rows may be put together.
        device: what computes it, and a sentence when that is not what the policy asks for.
        example_seconds: the median time of one row.
        load_seconds: reading, warming up and checking together.
        memory_bytes: memory that the load took: of this process, or of the children.
        sharers: how many server processes share it, which have this memory together.
        accelerator_bytes: of the memory of its GPU, what the load took; 0 on the processor.
        confinement: what it is kept from.
        processes: how many hold it, those included that stand by; 0 where it is in this one.
    """

    package: Package
    signature: Signature
    variant: Variant
    executor: Executor
    placement: str
    reason: str
    batching: Batching
    device: Device
    example_seconds: float
    load_seconds: float
    memory_bytes: int
    sharers: int = 1
    accelerator_bytes: int = 0
    confinement: Statement = UNKNOWN
    processes: int = 0

    def now(self) -> "LoadedModel":
        """The same as it is by now: the keeper of a shared model may have moved it. Itself if it has not."""
        executor = self.executor
        if self.sharers < 2 or not isinstance(executor, ProcessExecutor) or executor.device == self.device:
            return self
        return self._replace(
            device=executor.device,
            example_seconds=executor.example_seconds,
            memory_bytes=executor.memory_bytes * self.processes,
            accelerator_bytes=executor.accelerator_bytes * self.processes,
        )


class LoadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a load may use.

    Attributes:
        cores: that this process may keep busy.
        run_limit_s: a run in a child longer than this is a hang, unless the policy says otherwise.
        start_limit_s: seconds that the model has to become ready.
        process_memory: bytes of resident memory at which a child is replaced.
        accelerator: the GPU that it will run on, where its memory is counted; else empty.
        accelerator_budget: bytes that all models may hold of that GPU.
        behind: whether its own processes run only where nobody else wants the processor.
        confinement: what model processes are to be kept from; the policy and the package say whether the
            network and programs are among it.
        pace: of a load in this process.
    """

    cores: int = 1
    run_limit_s: float = 30.0
    start_limit_s: float = 120.0
    process_memory: int = 4 * 1024**3
    accelerator: str = ""
    accelerator_budget: int = 0
    behind: bool = False
    confinement: Confinement = USUAL
    pace: Pace = HURRIED


class _Found(NamedTuple):
    """What a loaded variant is like; see ``LoadedModel``."""

    example_seconds: float
    batching: Batching
    memory_bytes: int
    device: Device
    accelerator_bytes: int
    confinement: Statement


def usable_cores() -> int:
    """Cores that this process may run on."""
    return max(1, len(os.sched_getaffinity(0)))


def variant_of(manifest: Manifest, name: str | None = None) -> Variant:
    """A variant by name; when None the one that serves, or what it was made from where its library is not.

    Raises:
        ArtifactUnreadable: there is no such variant.
    """
    try:
        chosen = manifest.variant(name or manifest.serving)
        if name is None and MADE_FROM in chosen.options and lookup.lacking(chosen.format):
            return manifest.variant(str(chosen.options[MADE_FROM]))
    except KeyError as error:
        known = ", ".join(each.name for each in manifest.variants)
        raise ArtifactUnreadable(f"{manifest.model} has no variant {error}; it has {known}.") from error
    return chosen


def _stands_in(manifest: Manifest, chosen: Variant, name: str | None) -> str:
    """Why a variant runs that is not the one that should; empty when it is."""
    if name is not None or chosen.name == manifest.serving:
        return ""
    library = lookup.lacking(manifest.chosen.format)
    return f"; {manifest.serving} would run here if {library} were installed"


def variant_bytes(manifest: Manifest, variant: Variant) -> int:
    """Bytes of the files that a variant is loaded from, with the tensor files that no variant names."""
    others = tuple(f"{each.path.rstrip('/')}/" for each in manifest.variants if each.path != variant.path)
    return sum(
        entry.size
        for entry in manifest.files
        if entry.path not in _RECORDS and not f"{entry.path}/".startswith(others)
    )


async def load_model(
    package: Package,
    policy: Policy | None = None,
    *,
    variant: str | None = None,
    limits: LoadLimits | None = None,
    pool: Pool | None = None,
    meter: Meter | None = None,
    sharing: Sharing = ALONE,
) -> LoadedModel:
    """Make a variant of a verified package ready to answer, where measurement or the policy puts it.

    What runs in this process is loaded in a thread, so that the event loop stays free; what runs in
    child processes is never imported here.

    Args:
        package: as ``open_package`` gave it.
        policy: the deployment's wishes.
        variant: name of a variant; the one that the manifest chose when None.
        limits: what the load may use.
        pool: where the thread comes from; the loop's own when None. Memory is measured rightly only
            when one model is loaded at a time. A ``LoadThread`` outlasts a load that hangs.
        meter: counts replaced children.
        sharing: with whom its processes may be shared.

    Raises:
        ArtifactUnreadable: no such variant, or its answers do not fit the signature.
        ArtifactUntrusted: the form executes code and nobody allowed it.
        DependencyMissing: its library is not installed.
        ModelFailed: it raised on its own example.
        SurroundingsError: it must be confined, and cannot where it runs.
        UnavailableError: it did not become ready in time.
    """
    started = time.perf_counter()
    policy, limits = policy or Policy(), limits or LoadLimits(cores=usable_cores())
    chosen = on_device(variant_of(package.manifest, variant), policy.device)
    shared = sharing.wanted(chosen, policy)
    placed = _placed(chosen, None, policy, limits, shared=shared)
    processes = placed.slots + policy.spares if placed.kind == "process" else 0
    running: Executor
    if placed.kind == "process":
        start = sharing.start if shared else Spawned
        running = executor = _children(package, chosen, placed, policy, limits, start)
        if meter is not None:
            executor.on_replaced = meter.replaced
        found = await _found_in(executor, package, processes)
    else:
        placed, running, found = await _running_here(package, chosen, policy, limits, pool)
    return LoadedModel(
        package=package,
        signature=package.signature,
        variant=chosen,
        executor=running,
        placement=placed.kind,
        reason=placed.reason + _stands_in(package.manifest, chosen, variant),
        load_seconds=time.perf_counter() - started,
        sharers=sharing.workers if shared else 1,
        processes=processes,
        **found._replace(batching=as_declared(found.batching, chosen.options))._asdict(),
    )


def _placed(
    variant: Variant, seconds: float | None, policy: Policy, limits: LoadLimits, *, shared: bool = False
) -> Placed:
    options = found_here(variant) if seconds is not None else {}
    return place(
        format=variant.format,
        example_seconds=seconds,
        policy=policy,
        options=options,
        cores=limits.cores,
        shared=shared,
        confined=limits.confinement.mode is Mode.REQUIRE,
    )


async def _running_here(
    package: Package, variant: Variant, policy: Policy, limits: LoadLimits, pool: Pool | None
) -> tuple[Placed, Executor, _Found]:
    """Load a variant in this process, and put it where its example's time says."""
    predictor, found = await _loaded_here(package, variant, limits, pool)
    placed = _placed(variant, found.example_seconds, policy, limits)
    confinement = stated_here(placed.kind, executes=bool(variant.options.get(EXECUTES)))
    running = _around(predictor, placed, package.manifest.model)
    return placed, running, found._replace(confinement=confinement)


async def _loaded_here(
    package: Package, variant: Variant, limits: LoadLimits, pool: Pool | None
) -> tuple[Predictor, _Found]:
    """Load in a thread, for as long as the limits allow."""
    bound = Bound(limits.start_limit_s, package.manifest.model, f"{package.digest}/{variant.name}")
    return await bounded(
        pool, bound, lambda: _load_here(package, variant, limits.pace), lambda loaded: loaded[0].close()
    )


def _load_here(package: Package, variant: Variant, pace: Pace) -> tuple[Predictor, _Found]:
    """Load, warm up and check in the calling thread; blocks for as long as that takes."""
    manifest, signature = package.manifest, package.signature
    # The library comes first: it is there for every model of the format, and not this one's memory.
    adapter = lookup.adapter(variant.format)
    before, gpus = resident_bytes(), Before()
    predictor = adapter.load(package.folder, variant, signature, trust=manifest.trusted)
    try:
        pace.breathe()
        example = example_arrays(signature)
        pace.breathe()
        seconds = rehearse(predictor, signature, manifest.model, example=example)
        pace.breathe()
        batching = batching_of(predictor.predict, example)
        pace.breathe()
    except BaseException:
        predictor.close()
        raise
    # What loading used and freed again would be taken for the model's, and would stay with the process.
    give_back()
    grown = max(0, resident_bytes() - before)
    return predictor, _Found(seconds, batching, grown, placed_of(predictor), gpus.taken(predictor), UNKNOWN)


def _around(predictor: Predictor, placed: Placed, name: str) -> Executor:
    if placed.kind == "inline":
        return InlineExecutor(predictor)
    return ThreadExecutor(predictor, name, placed.slots)


async def _found_in(executor: ProcessExecutor, package: Package, processes: int) -> _Found:
    """Start the processes of a model, so many, and see what they are like."""
    try:
        await executor.open()
        example = example_arrays(package.signature)
        batching = await batching_elsewhere(lambda arrays: run_batch(executor, arrays), example)
    except BaseException:
        await executor.close()
        raise
    return _Found(
        executor.example_seconds,
        batching,
        executor.memory_bytes * processes,
        executor.device,
        executor.accelerator_bytes * processes,
        stated(executor.protections),
    )


def _declared(usual: Confinement, variant: Variant, policy: Policy) -> Confinement:
    """What a model is kept from less what it declares: as its deployment says, or else as its author does."""
    network, programs = (
        bool(variant.options.get(option)) if said is None else said
        for option, said in ((NETWORK, policy.network), (PROGRAMS, policy.programs))
    )
    return msgspec.structs.replace(usual, network=network, programs=programs)


def _children(
    package: Package, variant: Variant, placed: Placed, policy: Policy, limits: LoadLimits, start: Start
) -> ProcessExecutor:
    name, memory = package.manifest.model, limits.process_memory
    device = policy.device if variant.format in ON_GPUS else PROCESSOR
    run_s = limits.run_limit_s if policy.run_limit_s is None else policy.run_limit_s
    spec = ChildSpec(
        package.folder,
        package.digest,
        variant.name,
        device,
        behind=Standing.BEHIND if limits.behind else Standing.LEVEL,
        confinement=_declared(limits.confinement, variant, policy),
    )
    own = ChildLimits(run_s=run_s, start_s=limits.start_limit_s, memory_bytes=memory)
    if limits.behind:
        # Whoever gets no processor for a while does not hang.
        own = msgspec.structs.replace(own, heartbeat_s=_BEHIND_HEARTBEAT_S)
    if start is Spawned:
        return ProcessExecutor(spec, name=name, processes=placed.slots, spares=policy.spares, limits=own)
    share = Share(
        name,
        placed.slots,
        policy.spares,
        run_s,
        limits.start_limit_s,
        policy.max_batch or MOST_ROWS,
        limits.accelerator if limits.accelerator_budget else "",
        variant_bytes(package.manifest, variant),
        limits.accelerator_budget,
        bool(variant.options.get(MIXES)),
    )
    # A connection for each process, so that this server alone can keep all of them busy. The keeper watches
    # the processes, and starting one is what may take as long as it may there.
    watched = ChildLimits(
        run_s=math.inf,
        heartbeat_s=math.inf,
        start_s=limits.start_limit_s + _BESIDE_START_S,
        memory_bytes=memory,
    )
    return ProcessExecutor(
        spec._replace(share=share), name=name, processes=placed.slots, limits=watched, start=start
    )
