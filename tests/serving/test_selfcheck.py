"""What a version must pass before it answers: its form, its recorded answer, its time."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.artifact.manifest import Proof, Variant
from servable.artifact.selfcheck import Recorded
from servable.errors import ModelFailed, SelfCheckFailed
from servable.frameworks import lookup
from servable.frameworks.base import Predictor
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.runtime.framing import Load
from servable.runtime.model import load_model
from servable.runtime.rehearsal import check_answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live
from servable.serving.selfcheck import ON_GPU, check_moved, difference, expected_of, tolerance_of
from servable.settings import ServerSettings
from servable.tensors import PREDICTION, PROBABILITIES
from serving.making import BIAS, publish_iris
from serving.making_checked import RECORDED, Checked, publish_checked
from serving.making_tensors import IMAGE, PLANS, SHOUT

OTHER = BIAS + np.array([0.0, 0.0, 100.0])
VARIANT = Variant(name="trained", format="onnx", path="model.onnx")


def follow(home: Path, second: Any = lambda: None, **more: Any) -> tuple[int, list[tuple[int, str]]]:
    """The version that answers after a second one was deployed, and why others do not."""

    async def course() -> tuple[int, list[tuple[int, str]]]:
        settings = ServerSettings(**{key: more.pop(key) for key in list(more) if key.endswith("_s")})
        host = Host(RegistrySource(home), Metrics("test"), settings, **more)
        await host.reconcile()
        second()
        await host.reconcile()
        live = host.find("iris")
        assert isinstance(live, Live)
        failed = [(each.version, each.reason) for each in host.table.statuses if each.state == "failed"]
        await host.close()
        return live.version, failed

    return asyncio.run(course())


def test_a_version_that_answers_as_it_did_is_taken(home: Path) -> None:
    publish_checked(home)
    assert follow(home) == (1, [])


def test_a_package_without_a_recorded_answer_is_taken(home: Path) -> None:
    publish_iris(home)
    assert follow(home) == (1, [])


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_another_answer_than_the_recorded_one_is_refused(home: Path, executor: str) -> None:
    publish_checked(home, policy={"executor": executor})
    version, failed = follow(home, lambda: publish_checked(home, Checked(bias=OTHER, recorded=RECORDED)))
    assert version == 1
    ((number, reason),) = failed
    assert number == 2
    assert "answers its example otherwise than when it was made (it gets another label and a value" in reason
    assert "servable optimize iris" in reason


def test_a_signature_that_the_answers_do_not_keep_is_refused(home: Path) -> None:
    publish_checked(home)
    version, failed = follow(home, lambda: publish_checked(home, Checked(classes=("a", "b", "c", "d"))))
    assert version == 1
    assert failed == [
        (2, "iris answered its own example with an array of shape (1, 3) instead of 4 probabilities.")
    ]


def test_a_load_that_hangs_is_left_behind(home: Path) -> None:
    publish_iris(home)
    free = threading.Event()
    adapter = lookup.adapter("onnx")

    class Slow:
        def load(self, folder: Path, *args: Any, **more: Any) -> Predictor:
            if (folder / "hang").exists():
                free.wait(30)
            return adapter.load(folder, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "adapter", lambda name: Slow())
        version, failed = follow(
            home, lambda: publish_checked(home, Checked(extra=("hang",))), start_limit_s=0.2
        )
    free.set()
    assert version == 1
    assert failed == [(2, "iris was not ready within 0.2 s.")]


def test_random_answers_are_not_compared() -> None:
    silent = Variant(name="trained", format="python", path="model.py", unchecked="it throws dice")
    recorded = Recorded({}, {"trained": {PREDICTION: np.array([1.0])}})
    assert expected_of(silent, recorded) is None
    assert expected_of(VARIANT, recorded) is not None
    assert expected_of(VARIANT, None) is None


def test_a_form_is_held_against_whom_it_must_equal() -> None:
    answers = {"trained": {PREDICTION: np.array([1.0])}, "int8": {PREDICTION: np.array([2.0])}}
    recorded = Recorded({}, answers)
    equal = Variant(
        name="onnx-fp32", format="onnx", path="x", proof=Proof(equal=True, rows=9, tolerance=1e-3)
    )
    lossy = Variant(
        name="int8", format="onnx", path="x", proof=Proof(equal=False, rows=9, worst_difference=0.03)
    )
    assert expected_of(equal, recorded) is answers["trained"]
    assert expected_of(lossy, recorded) is answers["int8"]
    assert tolerance_of(equal, "cpu") == 1e-3
    assert tolerance_of(lossy, "cpu") == 0.03
    assert tolerance_of(VARIANT, "cpu") == 1e-4
    assert tolerance_of(VARIANT, "cuda:0") == ON_GPU


def test_a_label_on_the_border_may_change() -> None:
    one = {PREDICTION: np.array([0]), PROBABILITIES: np.array([[0.50001, 0.49999]])}
    other = {PREDICTION: np.array([1]), PROBABILITIES: np.array([[0.49999, 0.50001]])}
    assert difference(one, other, 1e-4) == ""
    assert difference(one, other, 1e-6) != ""
    assert (
        difference({PREDICTION: np.array([0])}, {PREDICTION: np.array([1])}, 1e-4) == "it gets another label"
    )


@pytest.mark.parametrize(
    ("signature", "answer", "said"),
    [
        (PLANS, {"prediction": np.array(["12"], object)}, "instead of a number"),
        (PLANS, {"prediction": np.array([np.inf])}, "not finite"),
        (PLANS, {"cost": np.array([1.0])}, "nothing for one row"),
        (IMAGE, {"score": np.zeros((1, 5))}, "without scores, which its signature names"),
        (IMAGE, {"scores": np.zeros((1, 4))}, r"scores of shape \(4,\) instead of \(5,\)"),
        (IMAGE, {"scores": np.array([["x"] * 5], object)}, "scores of object instead of float32"),
        (SHOUT, {"shouted": np.zeros(1)}, "shouted of float64 instead of str"),
    ],
)
def test_answers_keep_the_signature(signature: Any, answer: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFailed, match=said):
        check_answer(answer, signature, "model")


@pytest.mark.parametrize("bias", [BIAS, OTHER])
def test_what_a_keeper_moves_is_asked_as_well(home: Path, bias: np.ndarray) -> None:
    record = publish_checked(home, Checked(bias=bias, recorded=RECORDED))
    with open_home(home) as opened:
        package = opened.package(record)

    async def course() -> None:
        loaded = await load_model(package)
        load = Load(str(package.folder), package.digest, loaded.variant.name, 0, ())
        try:
            await check_moved(load, loaded.executor, "cuda:0")
        finally:
            await loaded.executor.close()

    if bias is BIAS:
        asyncio.run(course())
    else:
        with pytest.raises(SelfCheckFailed, match="iris answers its example otherwise"):
            asyncio.run(course())
