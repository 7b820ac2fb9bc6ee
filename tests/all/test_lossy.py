"""Networks quantised and served, within the loss that they are allowed."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
Image = pytest.importorskip("PIL.Image", reason="needs the extra image; make test-all has it")
transformers = pytest.importorskip(
    "transformers", reason="needs the extra transformers; make test-all has it"
)

import servable
from all import folders
from all.wire import over_http
from e2e.conftest import running_server
from servable.artifact.package import open_package
from servable.frameworks.lookup import adapter
from servable.registry.policy import Policy
from servable.runtime.model import load_model
from servable.workflows.outcomes import VariantRow
from servable.workflows.samples import kept_sample

pytestmark = pytest.mark.frameworks


@pytest.fixture
def any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lossy forms serve however fast they are, as which is faster depends on the machine."""
    monkeypatch.setattr("servable.optimization.lossy.WORTH_LOSS", 0.0)
    monkeypatch.setattr("servable.optimization.choose.WORTH_LOSS", 0.0)


def has_bfloat16() -> bool:
    """Whether OpenVINO is installed and computes in bfloat16 on this processor."""
    try:
        import openvino
    except ModuleNotFoundError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def of(rows: tuple[VariantRow, ...]) -> dict[str, VariantRow]:
    return {row.name: row for row in rows}


def pictures(folder: Path, places: range) -> Path:
    """Digits as PNG in folders of classes."""
    found = load_digits()
    for place in places:
        inner = folder / str(found.target[place])
        inner.mkdir(parents=True, exist_ok=True)
        pixels = (found.images[place] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(inner / f"{place}.png")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_convolutional_network_is_quantised_and_serves_within_its_loss(
    tmp_path: Path, home: Path, any_speed: None
) -> None:
    train, other = pictures(tmp_path / "digits", range(900)), pictures(tmp_path / "other", range(900, 1300))
    outcome = servable.train(
        train, name="digits", model="network", time_budget_s=25, max_loss="accuracy=0.05", home=home
    )
    rows = of(outcome.variants)
    static = rows["onnx-int8-static"]
    assert static.loss is not None
    assert static.loss.passed, static.note
    assert static.loss.rows >= 140
    assert static.loss.trained is not None
    assert static.loss.trained > 0.8
    assert rows[outcome.serving].loss is not None
    if has_bfloat16():
        assert rows["openvino-bf16"].loss is not None

    # The package keeps the truth; a folder of classes brings more of it.
    again = servable.optimize("digits", sample=other, max_loss="accuracy=0.05", home=home)
    assert of(again.variants)["onnx-int8-static"].loss.rows == 320  # type: ignore[union-attr]
    servable.deploy("digits", home=home)
    files = sorted(other.rglob("*.png"))
    with running_server(home) as url:
        right = [asked(url, file) == file.parent.name for file in files]
    package = open_package(Path(servable.describe("digits", home=home).package))
    trained = package.manifest.variant("trained")
    model = adapter(trained.format).load(package.folder, trained, package.signature, trust=False)
    from servable.workflows.samples import file_sample

    sample = file_sample(other, package.signature, None, needs_truth=True)
    assert sample.rows is not None
    before = float((model.predict(sample.rows)["prediction"] == sample.truth).mean())
    assert package.manifest.chosen.name.startswith(("onnx-int8", "onnx-fp16", "openvino-bf16"))
    assert float(np.mean(right)) >= before - 0.05


def asked(url: str, file: Path) -> Any:
    answer = httpx.post(
        f"{url}/models/digits/predict", content=file.read_bytes(), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()["predictions"][0] if "predictions" in answer.json() else answer.json()["prediction"]


async def batching(package: Any, variant: str) -> Any:
    loaded = await load_model(package, Policy(), variant=variant)
    await loaded.executor.close()
    return loaded.batching


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_transformer_is_quantised_and_serves_within_its_loss(
    tmp_path: Path, home: Path, any_speed: None
) -> None:
    folder = folders.sequence_classifier(tmp_path / "sentiment")
    texts = [f"{line} {word}" for line in folders.PAGE for word in " ".join(folders.PAGE).split()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        scores = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    labels = [("bad", "fair", "good")[int(each.argmax())] for each in scores]
    table = tmp_path / "labelled.csv"
    pd.DataFrame({"text": texts, "said": labels}).to_csv(table, index=False)

    outcome = servable.add(
        folder, name="sentiment", sample=table, target="said", max_loss="accuracy=0.2", deploy=True, home=home
    )
    rows = of(outcome.variants)
    dynamic = rows["onnx-int8-dynamic"]
    assert dynamic.loss is not None
    assert dynamic.loss.trained == 1.0
    assert dynamic.loss.passed, dynamic.note
    assert rows[outcome.serving].loss is not None
    package = open_package(Path(outcome.package))
    assert kept_sample(package.folder).truth is not None
    # A scale that is found at each run is that of all its texts, which halving the example does not show.
    assert not asyncio.run(batching(package, "onnx-int8-dynamic")).shared
    assert asyncio.run(batching(package, "onnx-int8-static")).shared
    with running_server(home, "--request-timeout", "300") as url:
        body = over_http(url, "sentiment", [{"text": text} for text in texts])
    assert np.mean([one == other for one, other in zip(body["predictions"], labels, strict=True)]) >= 0.8
