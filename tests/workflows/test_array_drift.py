"""Drift of captured arrays, what a model took and what it gave, against what its package keeps."""

import asyncio
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import servable
from servable.artifact.sample import read_answers
from servable.clock import SystemClock
from servable.frameworks import lookup
from servable.monitoring.drift_records import ColumnDrift
from servable.monitoring.metrics import Metrics
from servable.progress import NoProgress
from servable.registry.home import open_home
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live
from servable.settings import ServerSettings
from servable.workflows.drift import DRIFT, drift, refresh_drift
from servable.workflows.packaging import Contents, publish_model
from servable.workflows.samples import Sample

NUMBERS, WIDTH, ROWS = 8, 300, 200
_MIX = np.random.default_rng(3).normal(size=(NUMBERS, WIDTH)).astype(np.float32)


def embedding(path: Path) -> Path:
    """A model of eight numbers to three hundred, wide enough to be kept projected."""
    nodes = [helper.make_node("MatMul", ["x", "mix"], ["mixed"]), helper.make_node("Tanh", ["mixed"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, NUMBERS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, WIDTH])],
        [numpy_helper.from_array(_MIX, "mix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)
    return path


def rows(seed: int, moved: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(ROWS, NUMBERS)) + moved


@pytest.fixture
def embedded(home: Path, tmp_path: Path) -> Path:
    trained = lookup.adapter("onnx").read(embedding(tmp_path / "embedding.onnx"), sample=None, trust=False)
    sample = Sample({"x": rows(0).astype(np.float32)})
    contents = Contents(model="embedding", adapter="onnx", trained=trained, sample=sample, tune=False)
    with open_home(home) as place:
        publish_model(place, contents, progress=NoProgress())
    servable.deploy("embedding", capture=1.0, home=home)
    return home


def serve(home: Path, given: NDArray[np.float64], name: str) -> None:
    """Let a server answer rows one by one, and capture them."""

    async def inside() -> None:
        host = Host(RegistrySource(home), Metrics("test"), ServerSettings(home=str(home)))
        await host.reconcile()
        try:
            live = host.find("embedding")
            assert isinstance(live, Live)
            for place, row in enumerate(given.tolist()):
                await answer(live, json.dumps({"inputs": [row]}).encode(), f"{name}-{place}")
        finally:
            await host.close()

    asyncio.run(inside())


def by_name(columns: tuple[ColumnDrift, ...]) -> dict[tuple[str, str], str]:
    return {(column.side, column.name): column.state for column in columns}


def test_captured_arrays_are_held_against_the_sample_and_the_answers_to_it(embedded: Path) -> None:
    with open_home(embedded) as place:
        kept = read_answers(place.package(place.models.resolve("embedding")).folder)
    # Wide answers are kept projected.
    assert kept["y"].shape == (ROWS, 256)
    serve(embedded, rows(1), "calm")
    found = drift("embedding", home=embedded)
    assert by_name(found.columns) == {("input", "x"): "steady", ("output", "y"): "steady"}
    serve(embedded, rows(2, moved=1.0), "moved")
    found = drift("embedding", window=str(ROWS), home=embedded)
    assert by_name(found.columns) == {("input", "x"): "drift", ("output", "y"): "drift"}
    assert {column.since_row for column in found.columns} == {ROWS}
    assert found.share == 1.0


def test_the_watcher_finds_it_too(embedded: Path) -> None:
    serve(embedded, rows(2, moved=1.0), "moved")
    with open_home(embedded) as place:
        assert refresh_drift(place, SystemClock()) == ("embedding",)
        (finding,) = place.findings.of(DRIFT)
    assert (finding.value["inputs"], finding.value["outputs"]) == (1, 1)


def test_a_model_without_a_sample_keeps_no_answers(home: Path, tmp_path: Path) -> None:
    servable.add(embedding(tmp_path / "embedding.onnx"), name="alone", home=home)
    with open_home(home) as place:
        assert read_answers(place.package(place.models.resolve("alone")).folder) == {}
