"""One network of PyTorch as a program, as TorchScript and as ONNX: one signature and one answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")

import msgspec

from all import torch_models as made
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.lookup import adapter

# PyTorch says of its own file forms that they will go; the tests make such files on purpose.
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

ROWS = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32) * 3
INPUT = msgspec.structs.replace(made.INPUT, example=[0.5, -1.0, 2.0, 0.0])


class Net(torch.nn.Module):
    """Scores, and what is done with them last."""

    def __init__(self, width: int, last: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body, self.last = torch.nn.Linear(4, width), last

    def forward(self, x: Any) -> Any:
        scores = self.body(x)
        if self.last == "softmax":
            return torch.softmax(scores, dim=-1)
        if self.last == "sigmoid":
            return torch.sigmoid(scores)
        if self.last == "flat":
            return torch.sigmoid(scores).reshape(-1)
        if self.last == "attention":
            return torch.softmax(scores, dim=-1) * scores
        return scores


def every_form(folder: Path, module: Any) -> dict[str, Path]:
    """The network in three files."""
    program = made.program(folder / "net.pt2", module)
    script = folder / "net.pt"
    torch.jit.trace(module, torch.zeros(2, 4)).save(str(script))
    graph = folder / "net.onnx"
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        module, (torch.zeros(2, 4),), str(graph), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    return {"program": program, "script": script, "onnx": graph}


def probabilities(raw: Any, how: str) -> Any:
    """What the scores mean, worked out here: a column for each class."""
    raw = raw.astype(np.float64).reshape(len(raw), -1)
    if how == "softmax":
        shares = np.exp(raw - raw.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)
    second = 1 / (1 + np.exp(-raw)) if how == "sigmoid" else raw
    return np.hstack([1 - second, second]) if raw.shape[1] == 1 else second


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("width", "last", "hints", "how"),
    [
        (3, "", Hints(labels=made.LABELS), "softmax"),
        (3, "softmax", Hints(labels=made.LABELS), ""),
        (3, "sigmoid", Hints(labels=(1, 2, 3)), ""),
        (3, "attention", Hints(labels=made.LABELS), "softmax"),
        (3, "softmax", Hints(labels=made.LABELS, scores="logits"), "softmax"),
        (3, "", Hints(labels=made.LABELS, scores="probabilities"), ""),
        (3, "", Hints(task="classification"), "softmax"),
        (2, "", Hints(labels=("no", "yes")), "softmax"),
        (1, "", Hints(labels=(False, True)), "sigmoid"),
        (1, "sigmoid", Hints(labels=("no", "yes")), ""),
        (1, "flat", Hints(task="classification"), ""),
    ],
)
def test_scores_mean_the_same_in_every_form(
    tmp_path: Path, width: int, last: str, hints: Hints, how: str
) -> None:
    module = Net(width, last).eval()
    with torch.inference_mode():
        raw = module(torch.from_numpy(ROWS)).numpy()
    wanted = probabilities(raw, how)
    hints = hints._replace(inputs=(INPUT,))
    signatures = {}
    for form, path in every_form(tmp_path, module).items():
        taking = adapter("onnx" if form == "onnx" else "torch")
        trained = taking.read(path, sample=None, trust=False, hints=hints)
        signatures[form] = trained.signature
        answer = taking.wrap(trained).predict({"x": ROWS})
        assert sorted(answer) == ["prediction", "probabilities"]
        np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-6)
        np.testing.assert_array_equal(answer["prediction"], wanted.argmax(axis=1))
    assert signatures["program"].task == "classification"
    assert signatures["program"] == signatures["script"] == signatures["onnx"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("labels", [("a", "b"), ("a",), ("a", "b", "c", "d")])
def test_labels_that_do_not_fit_are_refused_in_every_form(tmp_path: Path, labels: Any) -> None:
    for form, path in every_form(tmp_path, Net(3, "").eval()).items():
        taking = adapter("onnx" if form == "onnx" else "torch")
        with pytest.raises(SettingInvalid, match=f"{len(labels)} labels were given"):
            taking.read(path, sample=None, trust=False, hints=Hints(inputs=(INPUT,), labels=labels))
