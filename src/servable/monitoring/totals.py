"""The figures of a process as a plain record, and the sum of several such records.

Every process counts for itself. ``merge`` adds what they counted, so that one process and eight look
alike to whoever reads the figures: counters and gauges are summed, and where a sum would mean nothing
the larger (how long a load took, when the last run was) or the earlier (when the server began) is
kept. ``past`` is what remains of a process that ended: its counters stay, what it held is gone, so no
counter ever falls.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import msgspec

from servable.monitoring.shadow_comparison import Compared, all_merged

K = TypeVar("K", str, int)

#: Upper bounds of the histograms of durations, in seconds.
BOUNDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
#: Upper bounds of the batch-size histogram, in rows.
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = resource.getpagesize()
#: Fields of ``/proc/self/stat`` after the name in brackets: times in ticks, sizes in bytes and pages.
_UTIME, _STIME, _START, _VSIZE, _RSS = 11, 12, 19, 20, 21
#: When the machine began, in seconds since 1970; read once, so that a start time does not wander.
_BOOTED = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted for one version of a model.

    Attributes:
        model: its name.
        version: which one.
        codes: requests by outcome.
        buckets: requests by duration, one count per bound and one for what is above.
        seconds: the durations' sum.
        latencies: successful requests by duration, in the steps of ``durations``.
        failed_seconds: the sum of those of requests that were no success.
        rows: rows answered.
        batches: batches run.
        batch_buckets: batches by rows.
        batch_rows: their rows' sum.
        batch_seconds: their run times' sum.
        batch_sizes: batches and the sum of their run times by rows, for the first few sizes that came.
        run_requests: requests in the batches, one that was run in parts once for each.
        run_seconds: the batches' run times, counted once for every request in them.
        last_run: when the last batch ended, in seconds since 1970; 0 when there was none.
        wait_buckets: requests by time in the queue.
        wait_seconds: these times' sum.
        expired: requests whose time was over before they were started.
        abandoned: requests whose caller left before they were started.
        replacements: model processes replaced.
        cache_hits: answers from the cache.
        cache_misses: answers that the cache did not have.
        queued: requests that wait now.
        cache_bytes: size of the cache now.
        memory_bytes: memory that the loaded model holds now, in the server and in processes of its own.
        processes: living processes of the model now, of this server's own.
        shared_processes: living processes of the model now that several servers use.
        accelerator_bytes: of the memory of its GPU, what the loaded model holds now.
        load_seconds: how long the last load took.
        streams: answers in pieces that are open now.
        pieces: pieces of answers that were sent.
        first_buckets: answers in pieces by the time to their first, see ``BOUNDS``.
        first_seconds: sum of these times.
        captured: rows written to segments.
        capture_dropped: rows that should have been captured and were not.
    """

    model: str
    version: int
    codes: dict[str, int] = {}
    buckets: tuple[int, ...] = ()
    seconds: float = 0.0
    latencies: dict[int, int] = {}
    failed_seconds: float = 0.0
    rows: int = 0
    batches: int = 0
    batch_buckets: tuple[int, ...] = ()
    batch_rows: int = 0
    batch_seconds: float = 0.0
    batch_sizes: dict[int, tuple[int, float]] = {}
    run_requests: int = 0
    run_seconds: float = 0.0
    last_run: float = 0.0
    wait_buckets: tuple[int, ...] = ()
    wait_seconds: float = 0.0
    expired: int = 0
    abandoned: int = 0
    replacements: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    queued: int = 0
    cache_bytes: int = 0
    memory_bytes: int = 0
    processes: int = 0
    shared_processes: int = 0
    accelerator_bytes: int = 0
    load_seconds: float = 0.0
    streams: int = 0
    pieces: int = 0
    first_buckets: tuple[int, ...] = ()
    first_seconds: float = 0.0
    captured: int = 0
    capture_dropped: int = 0


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the operating system says about a process, or about several together.

    Attributes:
        cpu_seconds: processor time used, of the system and the user.
        resident_bytes: memory held.
        virtual_bytes: address space.
        open_fds: descriptors open.
        max_fds: most descriptors that may be open.
        started_at: seconds since 1970 at which the (first) process began; 0 when not known.
    """

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    virtual_bytes: int = 0
    open_fds: int = 0
    max_fds: int = 0
    started_at: float = 0.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one process at one moment, or of several together.

    Attributes:
        models: sorted by name and version.
        comparisons: of versions with their shadows, sorted by name and versions.
        rejected: requests that reached no model, by code.
        failed: wanted versions that could not be loaded, by reference ``name:version``, and why.
        loaded: versions that are live, in the process that has the most.
        connections: open connections.
        accepted: connections accepted so far.
        workers: processes that answer requests.
        worker_replacements: such processes that were replaced because they ended by themselves.
        process: what the operating system says.
    """

    models: tuple[ModelFigures, ...] = ()
    comparisons: tuple[Compared, ...] = ()
    rejected: dict[str, int] = {}
    failed: dict[str, str] = {}
    loaded: int = 0
    connections: int = 0
    accepted: int = 0
    workers: int = 0
    worker_replacements: int = 0
    process: ProcessFigures = ProcessFigures()


#: What a process that ended holds.
_NOTHING_HELD: dict[str, float] = {
    "queued": 0,
    "cache_bytes": 0,
    "memory_bytes": 0,
    "processes": 0,
    "shared_processes": 0,
    "accelerator_bytes": 0,
    "load_seconds": 0.0,
    "streams": 0,
}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The figures of several processes together. The order does not matter, nor does merging in steps."""
    given = list(snapshots)
    grouped: dict[tuple[str, int], list[ModelFigures]] = {}
    for snapshot in given:
        for figures in snapshot.models:
            grouped.setdefault((figures.model, figures.version), []).append(figures)
    return Snapshot(
        models=tuple(_same_model(grouped[key]) for key in sorted(grouped)),
        comparisons=all_merged(each.comparisons for each in given),
        rejected=_counts(each.rejected for each in given),
        failed=dict(sorted(failed for each in given for failed in each.failed.items())),
        loaded=max((each.loaded for each in given), default=0),
        connections=sum(each.connections for each in given),
        accepted=sum(each.accepted for each in given),
        workers=sum(each.workers for each in given),
        worker_replacements=sum(each.worker_replacements for each in given),
        process=_processes([each.process for each in given]),
    )


def requests(snapshot: Snapshot) -> int:
    """How many requests reached a model and ended, with whatever outcome."""
    return sum(sum(each.codes.values()) for each in snapshot.models)


def past(snapshot: Snapshot) -> Snapshot:
    """What remains of a process that ended: what it counted, without what it held."""
    replace = msgspec.structs.replace
    return replace(
        snapshot,
        models=tuple(replace(each, **_NOTHING_HELD) for each in snapshot.models),
        failed={},
        loaded=0,
        connections=0,
        workers=0,
        process=ProcessFigures(cpu_seconds=snapshot.process.cpu_seconds),
    )


def process_figures() -> ProcessFigures:
    """What the operating system says about this process; all zero where there is no ``/proc``."""
    try:
        stat = Path("/proc/self/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
        # One descriptor is the listing's own.
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - names are all that is needed
    except OSError:
        return ProcessFigures()
    return ProcessFigures(
        cpu_seconds=(int(stat[_UTIME]) + int(stat[_STIME])) / _TICK,
        resident_bytes=int(stat[_RSS]) * _PAGE,
        virtual_bytes=int(stat[_VSIZE]),
        open_fds=descriptors,
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started_at=round(
            time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(stat[_START]) / _TICK, 2
        ),
    )


def _same_model(group: list[ModelFigures]) -> ModelFigures:
    """Several processes' figures of one version."""
    merged: dict[str, object] = {"model": group[0].model, "version": group[0].version}
    for name in ModelFigures.__struct_fields__[2:]:
        merged[name] = _MERGING.get(name, sum)([getattr(each, name) for each in group])
    return msgspec.convert(merged, ModelFigures)


def _counts(all_counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """Counts by name, added; sorted by name so that equal sums are equal to the eye as well."""
    total: dict[K, int] = {}
    for counts in all_counts:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _buckets(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Histograms added; one that is empty counts as all zero."""
    return tuple(map(sum, zip_longest(*rows, fillvalue=0)))


def _sizes(all_sizes: Iterable[Mapping[int, tuple[int, float]]]) -> dict[int, tuple[int, float]]:
    """Runs and seconds by rows, added."""
    total: dict[int, tuple[int, float]] = {}
    for sizes in all_sizes:
        for rows, (count, seconds) in sizes.items():
            counted, spent = total.get(rows, (0, 0.0))
            total[rows] = (counted + count, spent + seconds)
    return dict(sorted(total.items()))


_MERGING: dict[str, Callable[..., object]] = {
    "batch_sizes": _sizes,
    "last_run": max,
    "codes": _counts,
    "latencies": _counts,
    "buckets": _buckets,
    "batch_buckets": _buckets,
    "wait_buckets": _buckets,
    "first_buckets": _buckets,
    "load_seconds": max,
    "shared_processes": max,
}


def _processes(group: list[ProcessFigures]) -> ProcessFigures:
    known = [each.started_at for each in group if each.started_at]
    return ProcessFigures(
        cpu_seconds=sum(each.cpu_seconds for each in group),
        resident_bytes=sum(each.resident_bytes for each in group),
        virtual_bytes=sum(each.virtual_bytes for each in group),
        open_fds=sum(each.open_fds for each in group),
        max_fds=sum(each.max_fds for each in group),
        started_at=min(known, default=0.0),
    )
