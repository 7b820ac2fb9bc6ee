"""Many rows in one call answer as every row by itself, or they are asked by themselves."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from river import base, compose, linear_model, preprocessing, tree

from frameworks.river_models import MODELS, above, made, prepared, rows, taught, third, value
from servable.frameworks import river_batches
from servable.frameworks.base import NO_HINTS, Trained
from servable.frameworks.frame import pack
from servable.frameworks.river import ADAPTER, RiverPredictor, trained_of
from servable.frameworks.river_batches import takes_batches
from servable.frameworks.river_signature import derive
from servable.tensors import PREDICTION, take
from servable.training import tasks
from servable.training.data import infer

PROOF = 64
ASKED = rows(200, seed=3)
#: Those that River asks about many rows at once, each with what it is taught.
BATCHED = {
    "logistic": (lambda: prepared() | linear_model.LogisticRegression(), above),
    "linear": (lambda: prepared() | linear_model.LinearRegression(), value),
    "unscaled": (lambda: compose.Select("size") | linear_model.LogisticRegression(), above),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are asked at once, too, though that takes longer."""
    monkeypatch.setattr(river_batches, "FEWEST_ROWS", PROOF)


def trained(model: Any, seen: list[dict[str, Any]]) -> Trained:
    signature, options = derive(model, pd.DataFrame(seen), NO_HINTS)
    return trained_of(model, signature, options)


def told(given: Trained, asked: list[dict[str, Any]]) -> dict[str, Any]:
    predictor = ADAPTER.wrap(given)
    return predictor.predict(pack(pd.DataFrame(asked), given.signature))


def one_by_one(given: Trained, asked: list[dict[str, Any]]) -> dict[str, Any]:
    arrays, predictor = pack(pd.DataFrame(asked), given.signature), ADAPTER.wrap(given)
    found = [predictor.predict(take(arrays, slice(place, place + 1))) for place in range(len(asked))]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        if array.dtype.kind == "i":
            assert array.tolist() == other[name].tolist()
        else:
            np.testing.assert_allclose(array, other[name], rtol=1e-12, atol=1e-12)


class Counting:
    """Counts the rows that a model is asked about one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
        self.rows = 0
        for name in ("predict_one", "predict_proba_one"):
            done = getattr(type(model), name, None)
            if done is not None:
                monkeypatch.setattr(type(model), name, self._counted(done))

    def _counted(self, done: Any) -> Any:
        def asked(model: Any, row: Any, **more: Any) -> Any:
            self.rows += 1
            return done(model, row, **more)

        return asked


@pytest.mark.parametrize("name", BATCHED)
def test_batches_answer_as_rows_do_and_are_proven_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, answer = BATCHED[name]
    given = trained(taught(make(), answer).model, rows())
    expected = one_by_one(given, ASKED)
    counting = Counting(monkeypatch, given.model)
    predictor = ADAPTER.wrap(given)
    arrays = pack(pd.DataFrame(ASKED), given.signature)
    same(predictor.predict(arrays), expected)
    assert 0 < counting.rows <= PROOF
    counting.rows = 0
    same(predictor.predict(arrays), expected)
    assert counting.rows == 0
    few = pack(pd.DataFrame(ASKED[:3]), given.signature)
    same(predictor.predict(few), {key: array[:3] for key, array in expected.items()})
    assert counting.rows > 0


@pytest.mark.parametrize("name", MODELS)
def test_every_model_answers_many_rows_as_it_answers_one(name: str) -> None:
    given = trained(made(name).model, rows())
    same(told(given, ASKED), one_by_one(given, ASKED))


def test_a_value_that_was_never_seen_and_one_that_is_missing_change_nothing() -> None:
    make, answer = BATCHED["logistic"]
    given = trained(taught(make(), answer).model, rows())
    strange = [{**row, "town": "never seen"} if place % 7 == 0 else row for place, row in enumerate(ASKED)]
    predictor = ADAPTER.wrap(given)
    predictor.predict(pack(pd.DataFrame(ASKED), given.signature))
    same(predictor.predict(pack(pd.DataFrame(strange), given.signature)), one_by_one(given, strange))
    imputed = trained(made("imputed").model, rows())
    gaps = [{**row, "size": None} if place % 7 == 0 else row for place, row in enumerate(ASKED)]
    same(told(imputed, gaps), one_by_one(imputed, gaps))


class Careless(linear_model.LogisticRegression):  # type: ignore[misc]  # River has no types here
    """Answers many rows otherwise than one."""

    def predict_proba_many(self, X: Any) -> Any:  # noqa: N803 - as River names it
        found = super().predict_proba_many(X)
        return found * 0.5 + 0.25


class Broken(linear_model.LogisticRegression):  # type: ignore[misc]  # see above
    """Raises when it is asked about many rows."""

    def predict_proba_many(self, X: Any) -> Any:  # noqa: N803 - as River names it
        raise IndexError


@pytest.mark.parametrize("kind", [Careless, Broken])
def test_batches_that_differ_or_fail_are_not_used(kind: type[Any]) -> None:
    given = trained(taught(prepared() | kind(), above).model, rows())
    assert takes_batches(given.model, "predict_proba_many")
    same(told(given, ASKED), one_by_one(given, ASKED))


def test_what_has_no_calls_for_many_rows_is_known() -> None:
    assert not takes_batches(tree.HoeffdingTreeClassifier(), "predict_proba_many")
    assert not takes_batches(prepared() | tree.HoeffdingTreeClassifier(), "predict_proba_many")
    assert not takes_batches(_Named(), "predict_proba_many")
    assert takes_batches(preprocessing.StandardScaler() | linear_model.LinearRegression(), "predict_many")


class _Named(base.MiniBatchClassifier):  # type: ignore[misc]  # see above
    """Names a class, and has no shares."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Nothing."""

    def learn_many(self, X: Any, y: Any) -> None:  # noqa: N803 - as River names it
        """Nothing."""


@pytest.mark.parametrize("gaps", [False, True])
def test_what_train_makes_is_asked_about_many_rows(gaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "size": draw.normal(size=400),
            "count": draw.integers(0, 5, 400),
            "town": draw.choice(["u", "v", "w"], 400).astype(object),
            "paid": draw.random(400) > 0.5,
            "sold": pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 9_000, 400), "h"),
        }
    )
    frame["label"] = np.where(frame["size"] + frame["paid"] > 0.4, "yes", "no")
    if gaps:
        for name in ("size", "town", "sold"):
            frame[name] = frame[name].where(draw.random(400) > 0.1)
    problem = infer(frame, "label")
    _, given = tasks.fit(problem, "online_linear", {})
    assert takes_batches(given.model, "predict_proba_many")
    whole = frame.dropna()
    predictor = RiverPredictor(given.model, given.signature, given.options)
    arrays = pack(whole, given.signature)
    found = predictor.predict(arrays)
    counting = Counting(monkeypatch, given.model)
    same(predictor.predict(arrays), found)
    assert counting.rows == 0
    assert len(found[PREDICTION]) == len(whole)
    same(found, one_by_one(given, whole.drop(columns="label").to_dict("records")))
    everything = predictor.predict(pack(frame, given.signature))
    assert len(everything[PREDICTION]) == 400


def test_three_classes_are_answered_too() -> None:
    given = trained(taught(prepared() | linear_model.SoftmaxRegression(), third).model, rows())
    same(told(given, ASKED), one_by_one(given, ASKED))
