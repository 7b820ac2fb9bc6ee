"""The linear classifier in packages that keep its answer to the example, or another one."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.selfcheck import Recorded, write_recorded
from servable.artifact.signature import Field
from servable.registry.home import open_home, publish
from servable.registry.records import VersionRecord
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES
from serving.making import BIAS, CLASSES, EXAMPLE, IRIS, OPTIONS, expected, write_graph


class Checked(NamedTuple):
    """What is published.

    Attributes:
        bias: of the graph.
        recorded: bias of the answers that the package keeps; the graph's own when None.
        classes: that the signature promises.
        extra: empty files beside the graph.
        damaged: whether the graph is no graph.
    """

    bias: np.ndarray = BIAS
    recorded: np.ndarray | None = None
    classes: tuple[str, ...] = CLASSES
    extra: tuple[str, ...] = ()
    damaged: bool = False


HONEST = Checked()
RECORDED = BIAS


def publish_checked(
    home: Path, what: Checked = HONEST, name: str = "iris", *, deploy: bool = True, policy: Any = None
) -> VersionRecord:
    """Publish it as the next version, and deploy it."""
    outputs = (Field(name="species", kind="category", dtype="str", values=what.classes),)
    row = list(EXAMPLE.values())
    label, chances = expected(row, what.bias if what.recorded is None else what.recorded)
    answers = {PREDICTION: np.array([CLASSES.index(label)]), PROBABILITIES: chances[None]}
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, msgspec.structs.replace(IRIS, outputs=outputs))
            write_graph(folder / "model.onnx", what.bias)
            if what.damaged:
                (folder / "model.onnx").write_bytes(b"no graph")
            for extra in what.extra:
                (folder / extra).touch()
            write_recorded(folder, Recorded({NUMBERS: np.array([row])}, {"trained": answers}))
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=OPTIONS)
            manifest = Manifest(
                model=name, created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, folder, manifest)
        if deploy:
            opened.deployments.deploy(record.model, record.version, policy=policy)
        return record
