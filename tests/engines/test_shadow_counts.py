"""What a server counts for the rollout of a shadow."""

from servable.engines.beside import counts_of
from servable.monitoring.metrics import Metrics
from servable.monitoring.shadow_comparison import compared_from
from servable.registry.rollout_records import Evidence, summed


def test_a_shadow_counts_by_its_comparison() -> None:
    metrics = Metrics("test")
    metrics.meter("iris", 1).count("ok", 1, 0.001)
    metrics.meter("iris", 2)
    comparing = metrics.comparing("iris", 1, 2)
    comparing.both(None, 0.001, 0.002)
    comparing.failed("model_died", real_failed=False)
    counts = counts_of(metrics.snapshot(), "iris", 2)
    assert counts is not None
    assert counts.codes == {"ok": 1, "model_died": 1}
    given = [Evidence(server=name, version=2, updated_at="", counts=counts) for name in ("a", "b")]
    total = summed(given)[2]
    together = compared_from("iris", 1, 2, total.shadow)
    assert (together.requests, together.shadow_failed) == (4, 2)
    champion = counts_of(metrics.snapshot(), "iris", 1)
    assert champion is not None
    assert champion.codes == {"ok": 1}
