"""Figures of several processes: sums in any order, and counters that never fall."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from servable.monitoring.metrics import Held, Metrics
from servable.monitoring.totals import (
    BATCH_BOUNDS,
    BOUNDS,
    ModelFigures,
    ProcessFigures,
    Snapshot,
    merge,
    past,
    process_figures,
)

COUNTS = st.integers(0, 2**40)
#: Binary fractions, whose sums are exact in any order.
SECONDS = st.integers(0, 2**20).map(lambda ticks: ticks / 1024)
CODES = st.dictionaries(st.sampled_from(["ok", "invalid_request", "model_died"]), COUNTS)
STEPS = st.dictionaries(st.integers(-60, -57), COUNTS, max_size=2)
FAILED = st.dictionaries(st.sampled_from(["a:1", "b:2"]), st.sampled_from(["No memory.", "Damaged."]))
SIZES = st.sampled_from([{}, {1: (3, 0.5)}, {1: (2**40, 0.25), 7: (1, 2.0)}])
LATENCIES = st.dictionaries(st.integers(0, 5), COUNTS, max_size=3)
GAUGES = frozenset(
    {
        "queued", "cache_bytes", "memory_bytes", "processes", "shared_processes", "accelerator_bytes",
        "load_seconds", "streams",
    }
)  # fmt: skip
PROCESS_GAUGES = frozenset({"resident_bytes", "virtual_bytes", "open_fds", "max_fds", "started_at"})


def buckets(bounds: tuple[float, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    # Four different counts, again and again: a count for each would only make the drawing slow.
    few = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS)
    return few.map(lambda counts: tuple(counts[index % 4] for index in range(len(bounds) + 1)))


@st.composite
def figures(draw: st.DrawFn, model: str, version: int) -> ModelFigures:
    values = {}
    for field in msgspec.structs.fields(ModelFigures)[2:]:
        if field.name == "codes":
            values[field.name] = draw(CODES)
        elif field.name == "latencies":
            values[field.name] = draw(STEPS)
        elif field.name == "batch_sizes":
            values[field.name] = draw(SIZES)
        elif field.name == "latencies":
            values[field.name] = draw(LATENCIES)
        elif field.name.endswith("buckets"):
            values[field.name] = draw(buckets(BATCH_BOUNDS if field.name.startswith("batch") else BOUNDS))
        else:
            values[field.name] = draw(SECONDS if field.type is float else COUNTS)
    return ModelFigures(model=model, version=version, **values)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    keys = draw(st.sets(st.tuples(st.sampled_from("ab"), st.integers(1, 2)), max_size=2))
    return Snapshot(
        models=tuple(draw(figures(*key)) for key in sorted(keys)),
        rejected=draw(CODES),
        failed=draw(FAILED),
        loaded=draw(COUNTS),
        connections=draw(COUNTS),
        accepted=draw(COUNTS),
        workers=draw(COUNTS),
        worker_replacements=draw(COUNTS),
        process=ProcessFigures(
            cpu_seconds=draw(SECONDS),
            resident_bytes=draw(COUNTS),
            open_fds=draw(COUNTS),
            started_at=draw(SECONDS),
        ),
    )


def counters(snapshot: Snapshot) -> dict[tuple[object, ...], float]:
    """Everything in a snapshot that must never fall."""
    found: dict[tuple[object, ...], float] = {
        ("accepted",): snapshot.accepted,
        ("replacements",): snapshot.worker_replacements,
        ("cpu",): snapshot.process.cpu_seconds,
        **{("rejected", code): count for code, count in snapshot.rejected.items()},
    }
    for each in snapshot.models:
        key = (each.model, each.version)
        for name, value in msgspec.structs.asdict(each).items():
            if name in {"model", "version", *GAUGES}:
                continue
            parts = (
                value.items()
                if isinstance(value, dict)
                else enumerate(value)
                if isinstance(value, tuple)
                else [(0, value)]
            )
            found.update({(*key, name, index): count for index, count in parts})
    return found


@given(snapshots(), snapshots(), snapshots())
def test_neither_order_nor_steps_matter(one: Snapshot, two: Snapshot, three: Snapshot) -> None:
    assert merge([one, two]) == merge([two, one])
    assert merge([merge([one, two]), three]) == merge([one, merge([two, three])]) == merge([one, two, three])
    assert merge([merge([one]), Snapshot()]) == merge([one])


@given(snapshots(), snapshots())
def test_no_counter_falls_when_a_process_ends_and_another_begins(one: Snapshot, two: Snapshot) -> None:
    before = counters(merge([one, two]))
    after = counters(merge([past(one), two, Snapshot(workers=1)]))
    assert after == before


@given(snapshots())
def test_what_ended_holds_nothing(one: Snapshot) -> None:
    remains = past(one)
    assert (remains.loaded, remains.connections, remains.workers) == (0, 0, 0)
    assert all(getattr(each, name) == 0 for each in remains.models for name in GAUGES)
    assert all(getattr(remains.process, name) == 0 for name in PROCESS_GAUGES)
    assert past(remains) == remains


@given(snapshots())
def test_a_snapshot_survives_the_wire(one: Snapshot) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Snapshot) == one


def test_histograms_of_unequal_length_are_added() -> None:
    short = Snapshot(models=(ModelFigures(model="a", version=1, buckets=(1, 2)),))
    long = Snapshot(models=(ModelFigures(model="a", version=1, buckets=(1, 2, 3)),))
    assert merge([short, long]).models[0].buckets == (2, 4, 3)


def test_load_time_and_start_are_not_sums() -> None:
    def one(seconds: float, began: float) -> Snapshot:
        model = ModelFigures(model="a", version=1, load_seconds=seconds)
        return Snapshot(models=(model,), loaded=1, process=ProcessFigures(started_at=began))

    both = merge([one(0.5, 200.0), one(2.0, 100.0), Snapshot()])
    assert (both.models[0].load_seconds, both.loaded, both.process.started_at) == (2.0, 1, 100.0)


def test_the_process_knows_itself() -> None:
    own = process_figures()
    assert own.resident_bytes > 10_000_000
    assert 0 < own.open_fds < own.max_fds
    assert own.cpu_seconds > 0
    assert process_figures().started_at == own.started_at


def metrics_of(counts: int) -> Metrics:
    metrics = Metrics("1.2.3")
    meter = metrics.meter("iris", 2)
    for _ in range(counts):
        meter.count("ok", 3, 0.002)
        meter.batch(12, 0.004)
        meter.waited(0.0002)
    meter.count("invalid_request", 0, 20.0)
    meter.expired = meter.abandoned = meter.replacements = 1
    meter.cache_hits, meter.cache_misses, meter.cache_bytes, meter.queued = 3, 1, 100, 2
    metrics.reject("route_not_found")
    metrics.set_loaded(1)
    metrics.connections, metrics.accepted = 2, 5
    metrics.held = lambda: {("iris", 2): Held(memory_bytes=1000, processes=2)}
    return metrics


def read(text: bytes) -> dict[str, float]:
    """Every sample by name and its labels but those of the model."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key not in ("model", "version")}
            found[" ".join([sample.name, *labels.values()])] = sample.value
    return found


def test_one_process_and_two_render_alike() -> None:
    metrics = metrics_of(4)
    one, two = read(metrics.render()), read(metrics.render(merge([metrics.snapshot(), metrics.snapshot()])))
    assert one.keys() == two.keys()
    expected = {
        "servable_requests_total ok": 4,
        "servable_requests_total invalid_request": 1,
        "servable_rejected_requests_total route_not_found": 1,
        "servable_rows_total": 12,
        "servable_request_duration_seconds_count": 5,
        "servable_request_duration_seconds_bucket 0.0025": 4,
        "servable_request_duration_seconds_bucket +Inf": 5,
        "servable_batch_rows_count": 4,
        "servable_batch_rows_sum": 48,
        "servable_batch_rows_bucket 8": 0,
        "servable_batch_rows_bucket 16": 4,
        "servable_queue_seconds_count": 4,
        "servable_queue_seconds_bucket 0.0001": 0,
        "servable_queue_seconds_bucket 0.00025": 4,
        "servable_expired_requests_total": 1,
        "servable_abandoned_requests_total": 1,
        "servable_process_replacements_total": 1,
        "servable_cache_hits_total": 3,
        "servable_cache_misses_total": 1,
        "servable_cache_bytes": 100,
        "servable_queued_requests": 2,
        "servable_model_memory_bytes": 1000,
        "servable_model_processes": 2,
        "servable_connections": 2,
        "servable_accepted_connections_total": 5,
        "servable_workers": 1,
    }
    assert {name: one[name] for name in expected} == expected
    assert {name: two[name] for name in expected} == {name: 2 * count for name, count in expected.items()}
    assert two["servable_models_loaded"] == 1
    assert two["process_resident_memory_bytes"] > 1.5 * one["process_resident_memory_bytes"]
    assert two["process_start_time_seconds"] == one["process_start_time_seconds"]


def test_a_snapshot_is_a_copy() -> None:
    metrics = metrics_of(1)
    before = metrics.snapshot()
    metrics.meter("iris", 2).count("ok", 1, 0.1)
    metrics.reject("route_not_found")
    assert before.models[0].codes["ok"] == 1
    assert before.rejected == {"route_not_found": 1}
    assert metrics.snapshot().models[0].codes["ok"] == 2
