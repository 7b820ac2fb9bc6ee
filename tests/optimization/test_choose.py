from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from optimization.models import data as make_data
from optimization.models import fitted, prepare, trained
from servable.artifact.manifest import Proof, Timing, Variant
from servable.errors import ModelFailed, StorageFailed
from servable.frameworks.base import MADE_FROM
from servable.frameworks.lookup import adapter
from servable.optimization.choose import fastest, optimise
from servable.optimization.measure import machine, time_predictor


def test_the_fast_equal_form_is_written_and_serves(tmp_path):
    model, given = trained("light")
    stages = Recorded()
    chosen = optimise(model, given.arrays, tmp_path, batches=(1, 8), progress=stages)

    assert chosen.serving == "onnx-fp64"
    by_name = {variant.name: variant for variant in chosen.variants}
    assert [timing.rows for timing in by_name["trained"].timings] == [1, 8]
    variant = by_name["onnx-fp64"]
    assert variant.proof is not None
    assert variant.proof.equal
    assert variant.proof.rows > len(given.two)
    predictor = adapter("onnx").load(tmp_path, variant, model.signature, trust=False)
    expected = adapter("sklearn").wrap(model).predict(given.arrays)
    answer = predictor.predict(given.arrays)
    assert np.array_equal(answer["prediction"], expected["prediction"])
    assert variant.timings[0].seconds < by_name["trained"].timings[0].seconds / 10
    assert "faster" in stages.outcome


def test_a_form_that_rounds_is_refused_and_its_file_is_not_kept(tmp_path):
    model, given = trained("light-three")
    chosen = optimise(model, given.arrays, tmp_path, batches=(1,))
    (refused,) = chosen.refused
    assert refused.name == "onnx-fp32"
    assert refused.proof is not None
    assert "thresholds" in refused.proof.reason
    assert [path.name for path in (tmp_path / "variants").iterdir()] == ["onnx-fp64.onnx"]


def test_what_cannot_be_compiled_serves_as_trained_and_says_why(tmp_path):
    given = make_data()
    model = fitted(Pipeline([("prepare", prepare("scaled")), ("model", Odd())]), given, "two")
    chosen = optimise(model, given.arrays, tmp_path, batches=(1,))
    assert chosen.serving == "trained"
    assert [variant.name for variant in chosen.variants] == ["trained"]
    assert "Odd" in chosen.notes[0]
    assert not (tmp_path / "variants").exists()


class Odd(KNeighborsClassifier):
    """A class that no converter knows."""


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    model, given = trained("logistic-three")
    (tmp_path / "variants").write_text("in the way")
    with pytest.raises(StorageFailed):
        optimise(model, given.arrays, tmp_path, batches=(1,))


def form(name: str, *micros: float, equal: bool = True) -> Variant:
    timings = tuple(Timing(rows, micro / 1e6) for rows, micro in zip((1, 32, 256), micros, strict=False))
    proof = None if name == "trained" else Proof(equal=equal, rows=1)
    return Variant(name=name, format="onnx", path="", timings=timings, proof=proof)


def test_the_fastest_equal_form_serves():
    slow, fast = form("trained", 900, 900), form("onnx-fp64", 9, 20)
    assert fastest([slow, fast]) == "onnx-fp64"
    assert fastest([slow, form("onnx-fp64", 9, 20, equal=False)]) == "trained"
    assert fastest([form("trained", 5, 10), fast]) == "trained"
    assert fastest([slow, form("onnx-fp64")]) == "trained"


def test_single_precision_must_be_clearly_faster():
    slow, exact = form("trained", 900, 900), form("onnx-fp64", 10, 20)
    assert fastest([slow, exact, form("onnx-fp32", 9.5, 19)]) == "onnx-fp64"
    assert fastest([slow, exact, form("onnx-fp32", 7, 12)]) == "onnx-fp32"


def test_another_library_must_be_clearly_faster():
    slow, exact = form("trained", 900, 900), form("onnx-fp32", 10, 20)
    assert fastest([slow, exact, made_from(exact, form("openvino-fp32", 9.5, 19))]) == "onnx-fp32"
    assert fastest([slow, exact, made_from(exact, form("openvino-fp32", 8, 17))]) == "openvino-fp32"


def made_from(source: Variant, variant: Variant) -> Variant:
    return msgspec.structs.replace(variant, options={MADE_FROM: source.name})


class Recorded:
    def __init__(self) -> None:
        self.outcome = ""

    def begin(self, title: str, total: float | None = None) -> None:
        assert title
        assert total

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        assert note

    def done(self, outcome: str = "") -> None:
        self.outcome = outcome


class Ticks:
    """Each reading is a fixed step later."""

    def __init__(self, step: float) -> None:
        self._now = 0.0
        self._step = step

    def monotonic(self) -> float:
        self._now += self._step
        return self._now

    def now(self) -> Iterator[None]:
        raise NotImplementedError


class Counting:
    concurrent = True

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict(self, arrays):
        self.rows.append(len(arrays["numbers"]))
        return {}

    def close(self) -> None: ...


def test_timing_is_the_median_of_calls_with_the_asked_rows_and_ends_in_time():
    predictor = Counting()
    timings = time_predictor(predictor, {"numbers": np.zeros((3, 2))}, (1, 5), budget=1.0, clock=Ticks(0.01))
    assert [timing.rows for timing in timings] == [1, 5]
    assert all(timing.seconds == pytest.approx(0.01) for timing in timings)
    assert set(predictor.rows) == {1, 5}
    assert len(predictor.rows) < 200


def test_the_machine_is_named():
    assert "cores" in machine()


class Fixed:
    """A model that takes no more rows than its graph was made for."""

    concurrent = True

    def __init__(self, most: int) -> None:
        self.most = most

    def predict(self, arrays):
        if len(arrays["numbers"]) > self.most:
            raise ModelFailed("too many rows")
        return {"prediction": arrays["numbers"]}

    def close(self) -> None:
        """Nothing is held."""


def test_numbers_of_rows_that_a_model_refuses_are_left_out():
    rows = {"numbers": np.ones((3, 2))}
    timings = time_predictor(Fixed(8), rows, (1, 8, 32, 256), clock=Ticks(0.01))
    assert [timing.rows for timing in timings] == [1, 8]
    with pytest.raises(ModelFailed):
        time_predictor(Fixed(0), rows, (1, 8), clock=Ticks(0.01))


def test_batches_too_large_to_be_held_are_left_out():
    rows = {"numbers": np.ones((1, 500_000))}
    timings = time_predictor(Fixed(256), rows, (1, 8, 32), clock=Ticks(0.01))
    assert [timing.rows for timing in timings] == [1, 8]
