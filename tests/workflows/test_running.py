"""How a running server's own words become its status."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from servable.cli.running import shadows, size, uptime
from servable.monitoring.agreement import Differences
from servable.monitoring.intervals import Estimate
from servable.monitoring.metrics import Metrics
from servable.monitoring.totals import BOUNDS
from servable.workflows.running import ask, quantile, read, samples


def test_figures_become_a_status() -> None:
    metrics = Metrics("1")
    meter = metrics.meter("iris", 2)
    for _ in range(99):
        meter.count("ok", 1, 0.0008)
    meter.count("model_failed", 0, 0.2)
    meter.batch(10, 0.1)
    meter.batch(20, 0.1)
    meter.cache_hits, meter.cache_misses, meter.queued = 3, 1, 5
    metrics.meter("iris", 1).count("ok", 1, 1.0)
    metrics.connections = 7
    listed = [
        {
            "name": "iris",
            "version": 2,
            "state": "live",
            "reason": "",
            "serving": {"variant": "onnx-fp32", "executor": "inline", "reason": "It is short."},
        },
        {"name": "other", "version": 1, "state": "failed", "reason": "It is damaged."},
    ]
    server = read(listed, samples(metrics.render().decode()), ready=True, now=2e9)
    assert (server.ready, server.workers, server.connections) == (True, 1, 7)
    assert server.uptime_s is not None
    iris, other = server.models
    assert (iris.requests, iris.errors, iris.queued) == (100, 1, 5)
    assert (iris.mean_batch, iris.cache_hit_rate) == (15.0, 0.75)
    assert (iris.variant, iris.executor, iris.reason) == ("onnx-fp32", "inline", "It is short.")
    assert iris.p50_s is not None
    assert iris.p99_s is not None
    assert 0.0005 <= iris.p50_s <= iris.p99_s <= 0.001
    assert (other.state, other.reason, other.requests) == ("failed", "It is damaged.", 0)
    assert other.p50_s is other.mean_batch is other.cache_hit_rate is None


# Seconds on bounds of buckets and between them; from few draws, as a busy machine takes long over each.
seconds = st.sampled_from(BOUNDS) | st.integers(0, 20_000).map(lambda thousandths: thousandths / 1000)


@given(st.lists(seconds, min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_right_bucket(values: list[float], share: float) -> None:
    bounds = [*BOUNDS, float("inf")]
    buckets = [(bound, float(sum(value <= bound for value in values))) for bound in bounds]
    estimated = quantile(buckets, share)
    assert estimated is not None
    assert 0 <= estimated <= BOUNDS[-1]
    above = min((bound for bound in bounds if bound >= estimated), default=bounds[-1])
    assert sum(value <= above for value in values) >= min(share * len(values), buckets[-2][1])


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile([], 0.5) is None
    assert quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None


def test_nobody_there_is_no_server() -> None:
    assert ask("http://127.0.0.1:9") is None
    assert ask("no address at all") is None


def test_sizes_and_times_for_people() -> None:
    assert [size(count) for count in (0, 1023, 1024, 1536, 20 * 2**20, 3 * 2**30)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB", "3.0 GiB",
    ]  # fmt: skip
    assert [uptime(seconds) for seconds in (5, 65, 3700, 90_000)] == [
        "5 s",
        "1 min 5 s",
        "1 h 1 min",
        "1 d 1 h",
    ]


def test_a_shadow_is_told_with_its_intervals() -> None:
    metrics = Metrics("1")
    comparing = metrics.comparing("iris", 2, 3)
    for agreed in (1, 1, 1, 0):
        comparing.both(Differences(1, agreed, np.array([0.25])), 0.001, 0.003)
    comparing.failed("model_died", real_failed=False)
    comparing.drop()
    server = read([], samples(metrics.render().decode()), ready=True, now=2e9)
    (shadow,) = server.shadows
    assert (shadow.model, shadow.version, shadow.shadow) == ("iris", 2, 3)
    assert (shadow.requests, shadow.dropped) == (5, 1)
    assert shadow.agreement is not None
    assert shadow.agreement.value == 0.75
    assert shadow.error_difference is not None
    assert shadow.error_difference.value == 0.2
    console = Console(width=200, record=True)
    console.print(shadows(server.shadows))
    said = console.export_text()
    assert "iris:3 of 2" in said
    assert "75.00% (" in said
    assert "+0.25 (+0.25 to +0.25)" in said
    assert "+2.000 ms" in said


def test_one_copy_has_no_bounds() -> None:
    metrics = Metrics("1")
    metrics.comparing("iris", 2, 3).both(Differences(1, 1, np.array([0.5])), 0.001, 0.001)
    (shadow,) = read([], samples(metrics.render().decode()), ready=True, now=2e9).shadows
    assert shadow.score_difference == Estimate(0.5)
    console = Console(width=200, record=True)
    console.print(shadows([shadow]))
    assert "+0.5 " in console.export_text()
