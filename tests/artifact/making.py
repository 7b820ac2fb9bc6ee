"""Small packages for the tests of artifact, registry and faults."""

from pathlib import Path
from typing import Any

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_json, write_signature
from servable.artifact.signature import Field, Signature

SIGNATURE = Signature(
    task="regression",
    inputs=(
        Field(name="age", kind="number", dtype="float64"),
        Field(name="city", kind="category", dtype="str"),
    ),
    outputs=(Field(name="price", kind="number", dtype="float64"),),
    example={"age": 30.0, "city": "Oslo"},
)


def manifest(model: str = "churn", **changes: Any) -> Manifest:
    """A head without files."""
    values: dict[str, Any] = {
        "model": model,
        "created_at": "2026-01-31T12:00:00Z",
        "framework": "onnx",
        "variants": (Variant(name="trained", format="onnx", path="model.onnx"),),
        "metrics": {"r2": 0.75},
    }
    return Manifest(**(values | changes))


def fill(folder: Path, content: bytes = b"the model") -> None:
    """Everything of a package except its manifest."""
    write_signature(folder, SIGNATURE)
    (folder / "model.onnx").write_bytes(content)
    (folder / "variants").mkdir()
    (folder / "variants" / "fast.onnx").write_bytes(content * 2)
    write_json(folder, "evaluation.json", {"r2": 0.75})
