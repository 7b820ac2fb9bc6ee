"""What the Open Inference Protocol says about models, from signatures and figures."""

from typing import Any

from servable.artifact.signature import Field, Signature
from servable.monitoring.metrics import MOST_SIZES, Held, Meter
from servable.protocols.oip_metadata import index_entry, model_config, model_metadata, model_statistics

MIXED = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64"),
        Field(name="plan", kind="category", dtype="str"),
    ),
    outputs=(Field(name="label", kind="category", dtype="bool", values=(False, True)),),
    probabilities=True,
)


def test_metadata() -> None:
    assert model_metadata("churn", [1, 3], MIXED) == {
        "name": "churn",
        "versions": ["1", "3"],
        "platform": "servable",
        "inputs": [
            {"name": "age", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "plan", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "BOOL", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
        ],
    }


def test_configuration_leaves_the_rows_out() -> None:
    config = model_config("churn", MIXED, max_rows=500)
    assert (config["max_batch_size"], config["dynamic_batching"]) == (500, {})
    assert [(each["data_type"], each["dims"]) for each in config["input"]] == [
        ("TYPE_FP64", [1]),
        ("TYPE_STRING", [1]),
    ]
    assert [(each["data_type"], each["dims"]) for each in config["output"]] == [
        ("TYPE_BOOL", [1]),
        ("TYPE_FP64", [2]),
    ]
    assert "dynamic_batching" not in model_config("churn", MIXED, max_rows=500, batched=False)


def statistics(meter: Meter, held: Held) -> dict[str, Any]:
    (found,) = model_statistics([meter.figures(held)])["model_stats"]
    return dict(found)


def test_statistics() -> None:
    meter = Meter("churn", 3)
    assert statistics(meter, Held())["last_inference"] == 0
    assert statistics(meter, Held())["memory_usage"] == []
    meter.batch(3, 0.5, 2)
    meter.batch(3, 0.25)
    meter.batch(1, 0.25)
    for seconds in (0.001, 0.002, 0.003, 0.004):
        meter.waited(seconds)
    for _ in range(5):
        meter.count("ok", 1, 0.5)
    meter.count("model_failed", 0, 2.0)
    meter.cache_hits, meter.cache_misses = 1, 4
    found = statistics(meter, Held(memory_bytes=7))
    stats = found["inference_stats"]
    assert (found["name"], found["version"]) == ("churn", "3")
    assert (found["inference_count"], found["execution_count"]) == (7, 3)
    assert stats["success"] == {"count": 5, "ns": 2_500_000_000}
    assert stats["fail"] == {"count": 1, "ns": 2_000_000_000}
    assert stats["queue"] == {"count": 5, "ns": 10_000_000}
    # Both requests of the first run spent all of its time in it.
    assert stats["compute_infer"] == {"count": 4, "ns": 1_500_000_000}
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (1, 4)
    sizes = [(each["batch_size"], each["compute_infer"]) for each in found["batch_stats"]]
    assert sizes == [(1, {"count": 1, "ns": 250_000_000}), (3, {"count": 2, "ns": 750_000_000})]
    assert found["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": 7}]


def test_the_sizes_that_are_kept_apart_are_bounded() -> None:
    meter = Meter("churn", 3)
    for rows in range(1, 1000):
        meter.batch(rows, 0.5)
    assert len(statistics(meter, Held())["batch_stats"]) == MOST_SIZES
    assert statistics(meter, Held())["execution_count"] == 999


def test_states_of_an_index() -> None:
    assert index_entry("churn", 3, "live", "") == {
        "name": "churn",
        "version": "3",
        "state": "READY",
        "reason": "",
    }
    states = [index_entry("a", 1, state, "why")["state"] for state in ("cold", "loading", "failed")]
    assert states == ["UNAVAILABLE", "LOADING", "UNAVAILABLE"]
