"""What a running server says about itself: frozen records that print as tables and travel as JSON."""

import msgspec

from servable.monitoring.intervals import Estimate


class RunningModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a running server; counts are since it started, all its workers together.

    Attributes:
        model: its name.
        version: which one.
        state: ``live``, ``cold``, ``loading``, ``failed`` or ``warm`` (kept loaded for a rollback).
        share: what part of its model's requests it answers, from 0 to 1.
        mirrored: what part of them is copied to it for comparison, from 0 to 1.
        reason: why it is not live, or why it runs where it runs.
        variant: the form that answers; empty when none is loaded.
        executor: where it runs; empty when nothing is loaded.
        device: what computes it; empty when nothing is loaded.
        device_reason: why that is not what its deployment asks for; empty when it is.
        confinement: one line: what it is kept from; empty when nothing is loaded.
        processes: its own processes.
        requests: answered, with or without success.
        errors: those that ended with an error.
        p50_s: half of the requests took no longer; estimated from a histogram, None without requests.
        p99_s: 99 of 100 took no longer; likewise.
        mean_batch: rows of a batch, on average; None without batches.
        queued: requests that wait now.
        cache_hit_rate: share of requests answered from the cache; None where nothing was looked up.
        memory_bytes: memory that it holds.
        accelerator_bytes: of the memory of its GPU, what it took.
    """

    model: str
    version: int
    state: str
    share: float = 0.0
    mirrored: float = 0.0
    reason: str = ""
    variant: str = ""
    executor: str = ""
    device: str = ""
    device_reason: str = ""
    confinement: str = ""
    processes: int = 0
    requests: int = 0
    errors: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    mean_batch: float | None = None
    queued: int = 0
    cache_hit_rate: float | None = None
    memory_bytes: int = 0
    accelerator_bytes: int = 0


class RunningShadow(msgspec.Struct, frozen=True, kw_only=True):
    """A version beside its shadow; counts are since the server started, all its workers together.

    Attributes:
        model: its name.
        version: which answers.
        shadow: which is compared with it.
        requests: copies whose end is known.
        dropped: copies that were dropped because the shadow had too much to do.
        agreement: share of rows with the same prediction.
        score_difference: mean of the shadow's score less the real one.
        latency_difference: seconds; mean of the shadow's time less the real one.
        error_difference: share of requests; the shadow's failures less the real ones.
    """

    model: str
    version: int
    shadow: int
    requests: int = 0
    dropped: int = 0
    agreement: Estimate | None = None
    score_difference: Estimate | None = None
    latency_difference: Estimate | None = None
    error_difference: Estimate | None = None


class RunningServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a running server says about itself.

    Attributes:
        ready: whether it wants requests.
        workers: HTTP processes.
        replacements: of such processes that ended by themselves.
        connections: open now.
        rejected: requests that reached no model.
        resident_bytes: memory of its HTTP processes.
        uptime_s: seconds since it started; None when not known.
        models: by name and version.
        shadows: what is known of versions and their shadows.
    """

    ready: bool
    workers: int = 1
    replacements: int = 0
    connections: int = 0
    rejected: int = 0
    resident_bytes: int = 0
    uptime_s: float | None = None
    models: tuple[RunningModel, ...] = ()
    shadows: tuple[RunningShadow, ...] = ()
