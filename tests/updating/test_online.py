"""Models that learn on from feedback: each turn is a snapshot that knows what its model was taught."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from river import compose, linear_model, preprocessing, tree

import servable
from servable.artifact.package import Package
from servable.errors import SettingInvalid
from servable.frameworks.base import EXECUTES
from servable.frameworks.frame import pack
from servable.frameworks.river import ADAPTER
from servable.registry.home import open_home
from servable.tensors import PREDICTION
from servable.updating.learning import restored
from servable.updating.options import UpdateOptions
from servable.updating.plan import Triggers
from servable.updating.update import UpdateOutcome, update
from updating.making import rows, write_traffic

ONLINE = UpdateOptions(tune=False, online=True)
ASKED = rows(200, seed=9, turned=True)


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    """A step that is code of the model's author."""
    return {"x": row["x"] * 2, "y": row["y"] * 2}


def package(home: Path, reference: str) -> Package:
    with open_home(home) as place:
        return place.package(place.models.resolve(reference))


def answered(found: Package) -> list[Any]:
    """What a version answers to ``ASKED``, in the form that it keeps."""
    trained = restored(found).trained
    given = ADAPTER.wrap(trained).predict(pack(ASKED, trained.signature))
    return [trained.signature.classes[place] for place in given[PREDICTION]]


def features(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = frame[["x", "y", "shop"]].to_dict("records")
    return found


def state(outcome: UpdateOutcome) -> str:
    assert outcome.turn is not None
    return outcome.turn.state


def grown(home: Path) -> Any:
    """A tree that learned 300 rows of the world as it was, taken in as ``shops:1`` and deployed."""
    model = tree.HoeffdingTreeClassifier(grace_period=20)
    frame = rows(300, seed=1)
    for row, label in zip(features(frame), frame["label"], strict=True):
        model.learn_one(row, label)
    path = home.parent / "tree.pkl"
    path.write_bytes(pickle.dumps(model))
    servable.add(path, name="shops", sample=frame, target="label", deploy=True, home=home)
    return model


def test_a_model_of_river_learns_on_as_river_does(home: Path) -> None:
    model = grown(home)
    assert package(home, "shops").manifest.framework == "river"
    more = rows(600, seed=2, turned=True)
    write_traffic(home, "shops", more, first=0)
    outcome = update("shops", ONLINE, home=home)
    assert state(outcome) == "promoted"
    reference = copy.deepcopy(model)
    for row, label in zip(features(more), more["label"], strict=True):
        reference.learn_one(row, label)
    wanted = [reference.predict_one(row) for row in features(ASKED)]
    assert answered(package(home, "shops:2")) == wanted
    assert wanted != [model.predict_one(row) for row in features(ASKED)]
    found = servable.describe("shops:2", home=home)
    assert found.deployed
    assert found.source["traffic"]["rows"] == 600
    assert Path(found.report).is_file()


def test_what_was_learned_is_not_learned_again(home: Path) -> None:
    model = grown(home)
    reference = copy.deepcopy(model)
    more = rows(1_000, seed=2, turned=True)
    for number, (first, last) in enumerate([(0, 600), (600, 1_000)], start=2):
        part = more.iloc[first:last]
        write_traffic(home, "shops", part, first=first)
        asked = UpdateOptions(
            tune=False, online=True, triggers=Triggers(labels=last - first), gate=ONLINE.gate, deploy="now"
        )
        outcome = update("shops", asked, home=home)
        assert outcome.turn is not None
        assert outcome.turn.record["collect"]["unseen"] == last - first
        for row, label in zip(features(part), part["label"], strict=True):
            reference.learn_one(row, label)
        if state(outcome) == "promoted":
            wanted = [reference.predict_one(row) for row in features(ASKED)]
            assert answered(package(home, f"shops:{number}")) == wanted
    assert servable.describe("shops", home=home).versions[:2] == (1, 2)


def test_a_class_that_is_new_is_learned(home: Path) -> None:
    grown(home)
    more = rows(600, seed=2)
    write_traffic(home, "shops", more.assign(label=more["label"].where(more["y"] < 0.3, "very")), first=0)
    assert state(update("shops", ONLINE, home=home)) == "promoted"
    assert servable.describe("shops:2", home=home).signature.classes == ("no", "yes", "very")
    assert "very" in answered(package(home, "shops:2"))


def test_steps_of_the_author_stay_trusted(home: Path) -> None:
    model = (
        compose.FuncTransformer(doubled) | preprocessing.StandardScaler() | linear_model.LogisticRegression()
    )
    frame = rows(300, seed=1)
    for row, label in zip(features(frame), frame["label"] == "yes", strict=True):
        model.learn_one(row, label)
    servable.add(
        model, name="shops", sample=frame.assign(label=frame["label"] == "yes"), target="label", deploy=True,
        home=home,
    )  # fmt: skip
    assert package(home, "shops").manifest.trusted
    more = rows(600, seed=2, turned=True)
    write_traffic(home, "shops", more.assign(label=more["label"] == "yes"), first=0)
    assert state(update("shops", ONLINE, home=home)) == "promoted"
    made = package(home, "shops:2").manifest
    assert made.trusted
    assert made.variant("trained").options[EXECUTES] is True


def test_what_was_trained_elsewhere_only_learns_on(home: Path) -> None:
    grown(home)
    write_traffic(home, "shops", rows(300, seed=2), first=0)
    with pytest.raises(SettingInvalid, match="let it learn on with --online"):
        update("shops", UpdateOptions(tune=False), home=home)


def test_one_command_makes_a_model_that_learns_on(shops_csv: Path, home: Path) -> None:
    made = servable.train(
        shops_csv, target="label", name="shops", online=True, time_budget_s=1, deploy=True, home=home
    )
    assert made.estimator in ("online_linear", "hoeffding_tree", "adaptive_forest")
    first = package(home, "shops").manifest
    assert first.framework == "river"
    assert not first.trusted
    write_traffic(home, "shops", rows(800, seed=2, turned=True), first=0)
    outcome = update("shops", ONLINE, home=home)
    assert state(outcome) == "promoted"
    assert outcome.turn is not None
    assert outcome.turn.record["evaluate"]["whole"]["challenger"] > 0.65
    assert not package(home, "shops:2").manifest.trusted


def test_it_may_also_be_fitted_anew(shops_csv: Path, home: Path) -> None:
    servable.train(
        shops_csv,
        target="label",
        name="shops",
        model="online_linear",
        time_budget_s=1,
        deploy=True,
        home=home,
    )
    write_traffic(home, "shops", rows(800, seed=2, turned=True), first=0)
    outcome = update("shops", UpdateOptions(tune=False), home=home)
    assert state(outcome) == "promoted"
    assert servable.describe("shops:2", home=home).recipe["rows_train"] == 1_100
