"""What several workers share: said by the deployment, else decided from the form and the device."""

import pytest

from servable.artifact.manifest import Variant
from servable.registry.policy import Policy
from servable.runtime.placement import Placed, on_gpu, place
from servable.runtime.sharing import ALONE, Sharing

MANY = Sharing(4)


def variant(form: str) -> Variant:
    return Variant(name="trained", format=form, path="model", options={})


@pytest.mark.parametrize("form", ["onnx", "torch", "sklearn"])
def test_a_deployment_says_whether_workers_share(form: str) -> None:
    assert MANY.wanted(variant(form), Policy(share=True))
    assert not MANY.wanted(variant(form), Policy(share=False))


def test_alone_there_is_nothing_to_share() -> None:
    assert not ALONE.wanted(variant("torch"), Policy(share=True))


@pytest.mark.parametrize("form", ["sklearn", "text", "lightgbm"])
def test_what_no_gpu_computes_is_not_shared_unasked(form: str) -> None:
    assert not MANY.wanted(variant(form), Policy())


def test_the_processor_shares_nothing_unasked() -> None:
    for form in ("onnx", "torch", "transformers"):
        assert not on_gpu(variant(form), "cpu")
        assert not MANY.wanted(variant(form), Policy(device="cpu"))


def test_what_runs_on_a_gpu_is_shared_unless_it_runs_in_the_server() -> None:
    torch = variant("torch")
    if not on_gpu(torch, "auto"):
        pytest.skip("this machine has no GPU")
    assert MANY.wanted(torch, Policy())
    assert MANY.wanted(torch, Policy(executor="process", device="cuda"))
    assert not MANY.wanted(torch, Policy(executor="thread"))


def test_what_is_shared_runs_in_processes() -> None:
    def shared(policy: Policy) -> Placed:
        return place(format="onnx", example_seconds=None, policy=policy, options={}, cores=2, shared=True)

    assert shared(Policy()) == Placed("process", 1, "all workers share it")
    assert shared(Policy(processes=2)) == Placed("process", 2, "all workers share it; 2 processes")
