"""Loading: rehearsal, self-check and the choice of executor."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from servable.artifact.manifest import FileEntry, Variant
from servable.artifact.package import Package
from servable.errors import ArtifactTampered, ArtifactUnreadable, ModelFailed
from servable.frameworks import lookup
from servable.frameworks.base import MADE_FROM
from servable.registry.home import open_home
from servable.registry.policy import Policy
from servable.runtime.batchable import Batching
from servable.runtime.executor import run_batch
from servable.runtime.model import load_model, variant_bytes, variant_of
from servable.runtime.rehearsal import check_answer, example_arrays
from serving.making import IRIS, publish_iris


@pytest.fixture
def package(home: Path) -> Package:
    record = publish_iris(home)
    with open_home(home) as opened:
        return opened.package(record)


def test_a_short_onnx_model_runs_inline(package: Package) -> None:
    loaded = asyncio.run(load_model(package))
    assert loaded.placement == "inline"
    assert "declarative" in loaded.reason
    assert loaded.executor.statistics().kind == "inline"
    assert loaded.confinement.summary == (
        "not confined: it runs in the event loop of the server, and its format holds no code"
    )
    assert loaded.batching == Batching()
    assert 0 < loaded.example_seconds < loaded.load_seconds


def test_an_unknown_variant_is_named(package: Package) -> None:
    with pytest.raises(ArtifactUnreadable, match="no variant 'int8'; it has trained"):
        asyncio.run(load_model(package, variant="int8"))


def test_the_example_is_packed() -> None:
    assert example_arrays(IRIS)["numbers"].tolist() == [[5.1, 3.5, 1.4, 0.2]]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"prediction": np.array([0, 1])},
        {"prediction": np.array(0)},
        {"prediction": np.array([3]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([-1]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([0.0]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([0])},
        {"prediction": np.array([0]), "probabilities": np.zeros((1, 2))},
    ],
)
def test_answers_that_do_not_fit_are_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(ModelFailed, match="its own example"):
        check_answer(answer, IRIS, "iris")


def test_the_policy_puts_a_model_into_processes(package: Package) -> None:
    async def course() -> None:
        loaded = await load_model(package, Policy(executor="process", processes=2))
        try:
            answer = await run_batch(loaded.executor, example_arrays(IRIS))
            assert answer["prediction"].tolist() == [0]
            assert (loaded.placement, loaded.batching) == ("process", Batching())
            assert loaded.executor.statistics().processes == 2
            assert loaded.memory_bytes > 20 * 2**20
            assert 0 < loaded.example_seconds < 1
        finally:
            await loaded.executor.close()

    asyncio.run(course())


def test_the_policy_puts_a_model_into_threads(package: Package) -> None:
    async def course() -> None:
        loaded = await load_model(package, Policy(executor="thread", threads=2))
        assert (loaded.placement, loaded.executor.slots) == ("thread", 2)
        await loaded.executor.close()

    asyncio.run(course())


def test_a_child_that_cannot_load_says_why(package: Package) -> None:
    folder = package.folder / "model.onnx"
    folder.chmod(0o644)
    folder.write_bytes(b"nothing")
    with pytest.raises(ArtifactTampered):
        asyncio.run(load_model(package, Policy(executor="process")))


def test_only_the_files_of_the_variant_count(package: Package) -> None:
    manifest = package.manifest
    other = msgspec.structs.replace(manifest.variants[0], name="other", path="other")
    files = (
        FileEntry("model.onnx", 100, ""),
        FileEntry("weights.data", 1000, ""),
        FileEntry("other/a", 7, ""),
        FileEntry("other/b", 3, ""),
        FileEntry("signature.json", 50, ""),
    )
    both = msgspec.structs.replace(manifest, variants=(*manifest.variants, other), files=files)
    assert variant_bytes(both, both.variant("trained")) == 1100
    assert variant_bytes(both, both.variant("other")) == 1010


@pytest.mark.parametrize("library", ["servable", "a_library_that_is_nowhere"])
def test_where_its_library_is_missing_the_form_that_it_was_made_from_runs(
    package: Package, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    made = Variant(name="other-fp32", format="other", path="", options={MADE_FROM: "trained"})
    manifest = msgspec.structs.replace(
        package.manifest, variants=(*package.manifest.variants, made), serving=made.name
    )
    package = msgspec.structs.replace(package, manifest=manifest)
    monkeypatch.setitem(lookup.KNOWN, "other", lookup.Known("servable.frameworks.onnx", "x", library=library))
    if library == "servable":
        assert variant_of(manifest) == made
        return
    loaded = asyncio.run(load_model(package))
    assert loaded.variant.name == "trained"
    assert loaded.reason.endswith("; other-fp32 would run here if a_library_that_is_nowhere were installed")
    # Whoever asks for it by name is told what is missing instead.
    assert variant_of(manifest, "other-fp32") == made


def test_a_form_made_from_nothing_known_is_refused(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Variant(name="other-fp32", format="other", path="", options={MADE_FROM: "gone"})
    manifest = msgspec.structs.replace(
        package.manifest, variants=(*package.manifest.variants, made), serving=made.name
    )
    monkeypatch.setitem(lookup.KNOWN, "other", lookup.Known("nowhere", "x", library="nowhere_either"))
    with pytest.raises(ArtifactUnreadable, match="no variant 'gone'"):
        variant_of(manifest)
