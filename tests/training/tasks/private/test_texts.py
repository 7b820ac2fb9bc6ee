"""Private models of texts: what may be known is told, the noise is as the budget asks, and it learns."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import servable
from servable.artifact.package import read_profile
from servable.errors import DataError, SettingInvalid
from servable.registry.home import open_home
from servable.training.tasks.private import texts
from servable.training.tasks.private.budget import Budget
from servable.training.tasks.private.gaussian import multiplier
from servable.workflows.look import describe

WORDS = {
    "good": ["fine", "lovely", "splendid", "warm", "bright", "happy", "clever"],
    "bad": ["broken", "dull", "cold", "sad", "ugly", "late", "wrong"],
}
SECRET = "zanzibarquux"


def rows(count: int, seed: int) -> pd.DataFrame:
    draw = random.Random(seed)
    labels = [draw.choice(list(WORDS)) for _ in range(count)]
    said = [" ".join([*draw.sample(WORDS[label], 2), "the", str(draw.randrange(10**6))]) for label in labels]
    return pd.DataFrame({"text": said, "label": labels})


def no_noise(count: int) -> bytes:
    """Bytes that make noise of practically 0."""
    return np.full(count // 8, 2**63, np.uint64).tobytes()


def sparse(frame: pd.DataFrame, columns: int = 64) -> Any:
    counted = np.zeros((len(frame), columns))
    for row, said in enumerate(frame["text"]):
        for word in said.split()[:3]:
            counted[row, sum(word.encode()) % columns] = 1
    return sp.csr_matrix(counted / np.linalg.norm(counted, axis=1, keepdims=True))


def test_it_learns_and_more_budget_is_better() -> None:
    frame, asked = rows(3000, 0), rows(1000, 1)
    truth, right = ((one["label"] == "good").to_numpy(np.int64) for one in (frame, asked))
    seen, wanted = sparse(frame), sparse(asked)

    def right_of(epsilon: float) -> list[float]:
        """Shares of right answers by ten draws of the noise, that are the same in every run."""
        return [
            texts.fit(seen, truth, 2, Budget(epsilon), random.Random(seed).randbytes)[0].score(wanted, right)
            for seed in range(10)
        ]

    little, much = right_of(0.01), right_of(2.0)
    assert min(much) > 0.9
    assert float(np.mean(much)) > float(np.mean(little)) + 0.15


def test_a_row_counts_no_more_than_its_limit() -> None:
    frame = rows(400, 2)
    truth = (frame["label"] == "good").to_numpy(np.int64)
    seen = sparse(frame)
    plain, spent = texts.fit(seen, truth, 2, Budget(1.0), no_noise)
    longer = sp.vstack([seen[:-1], seen[-1] * 1e6]).tocsr()
    same, _ = texts.fit(longer, truth, 2, Budget(1.0), no_noise)
    np.testing.assert_allclose(same.coef_, plain.coef_, rtol=1e-9, atol=1e-12)
    assert spent["noise_multiplier"] == multiplier(1.0, 1 / 4000, spent["steps"])
    assert spent["delta"] == 1 / 4000


def test_the_noise_of_every_step_is_that_of_the_budget() -> None:
    """Nothing can be learned from rows without words, so that the weights are the mean of sums of noise."""
    count, columns = 4000, 3000
    nothing = sp.csr_matrix((count, columns))
    truth = np.arange(count) % 2
    noisy, spent = texts.fit(nothing, truth, 2, Budget(1.0), random.Random(3).randbytes)
    steps = spent["steps"]
    last = round(steps / 2)
    # Weights after t steps are sums of t draws; the mean of the last half holds all of the early draws.
    weighed = np.asarray([min(1.0, (steps - at) / last) for at in range(steps)])
    moved = 64.0 / (count * 0.5) * np.sqrt(1 - 0.1**2)
    wanted = np.sqrt(2 * np.sum(weighed**2)) * spent["noise_multiplier"] * 0.5 * moved
    assert np.std(noisy.coef_) == pytest.approx(wanted, rel=0.05)


@pytest.mark.soak
def test_one_row_more_makes_no_answer_much_likelier() -> None:
    """The whole mechanism on neighbouring tables, judged by what it answers for the row they differ in."""
    frame = rows(40, 4)
    seen, truth = sparse(frame), np.zeros(40, np.int64)
    person = sparse(rows(1, 9))
    epsilon, runs = 0.5, 1500
    more = sp.vstack([seen, person]).tocsr(), np.append(truth, 1)
    budget = Budget(epsilon, 0.01)
    without = [texts.fit(seen, truth, 2, budget)[0].decision_function(person)[0] for _ in range(runs)]
    having = [texts.fit(*more, 2, budget)[0].decision_function(person)[0] for _ in range(runs)]
    for bound in np.quantile(without + having, np.linspace(0.05, 0.95, 10)):
        for one, other in ((without, having), (having, without)):
            for sign in (1, -1):
                share, against = (np.mean(sign * np.asarray(each) <= sign * bound) for each in (one, other))
                assert share <= np.exp(epsilon) * against + 0.01 + 5 * np.sqrt(max(share, 1e-3) / runs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts as a table and in folders of classes, one of them with a word that nobody else has; bounds."""
    made = tmp_path_factory.mktemp("texts")
    frame = rows(600, 5)
    frame.loc[0, "text"] += f" {SECRET}"
    frame.to_csv(made / "rows.csv", index=False)
    for place, row in frame.iloc[:200].iterrows():
        (made / "folders" / row["label"]).mkdir(parents=True, exist_ok=True)
        (made / "folders" / row["label"] / f"{place}.txt").write_text(row["text"])
    (made / "bounds.toml").write_text('text = "words"\nlabel = ["bad", "good"]\n')
    return made


def train(folder: Path, home: Path, data: str = "rows.csv", **more: Any) -> Any:
    told = {"target": "label", "privacy_epsilon": 4.0, "bounds": folder / "bounds.toml", **more}
    return servable.train(folder / data, name="said", home=home, **told)


def test_a_table_is_trained_recorded_and_tells_nothing(folder: Path, tmp_path: Path) -> None:
    made = train(folder, tmp_path / "home")
    found = describe("said:1", home=tmp_path / "home")
    spent = found.recipe["privacy"]
    assert (made.estimator, spent["epsilon"], spent["library"]) == ("dp_text", 4.0, "servable")
    assert spent["delta"] == 1 / (10 * found.recipe["rows_train"])
    assert spent["epsilon_of_all_versions"] == 4.0
    assert made.metrics["accuracy"] > 0.8
    # It is served as it was trained, and says why.
    assert made.serving == "trained"
    assert any("no vocabulary" in variant.note for variant in made.variants)
    with open_home(tmp_path / "home", create=False) as place:
        package = place.package(place.models.resolve("said:1"))
    assert not {path.name for path in package.folder.iterdir()} & {"sample.npz", "truth.npz", "answers.npz"}
    profile = read_profile(package.folder)
    assert profile is not None
    assert profile.rows == found.recipe["rows_holdout"]
    for path in package.folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
    train(folder, tmp_path / "home", privacy_epsilon=1.0, privacy_delta=1e-6)
    both = describe("said:2", home=tmp_path / "home").recipe["privacy"]
    assert (both["epsilon_of_all_versions"], both["delta"]) == (5.0, 1e-6)


def test_folders_of_texts_need_no_target(folder: Path, tmp_path: Path) -> None:
    made = train(folder, tmp_path, "folders", target=None)
    assert made.estimator == "dp_text"
    assert [(column.name, column.kind) for column in made.columns] == [("text", "text")]


@pytest.mark.parametrize(
    ("bounds", "more", "sentence"),
    [
        ({"text": "letters", "label": ["bad", "good"]}, {}, '"signs" for scripts without blanks'),
        ({"text": "words", "age": {"min": 1, "max": 2}, "label": ["bad", "good"]}, {}, "read nothing else"),
        ({"text": "words"}, {}, "must list the classes of 'label'"),
        ({"text": "words", "label": ["bad", "bad"]}, {}, "each once"),
        ({"text": "words", "label": ["bad", 1]}, {}, "as texts, or as whole numbers"),
        ({"text": "words", "label": ["bad", "good"]}, {"model": "words"}, "dp_text is"),
        ({"text": "words", "label": ["bad", "good"]}, {"target": None}, "with a target"),
        ({"text": "words", "label": ["bad", "good"]}, {"online": True}, "leave them out"),
        ({"text": "words", "label": ["bad", "good"]}, {"privacy_epsilon": 0.0}, "must be above 0"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_a_sentence(
    bounds: dict[str, Any], more: dict[str, Any], sentence: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bounds.json").write_text(json.dumps(bounds))
    with pytest.raises(SettingInvalid, match=sentence):
        train(folder, tmp_path / "home", bounds=tmp_path / "bounds.json", **more)


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({"said": "words", "label": ["bad", "good"]}, "names a column 'said', which the data does not have"),
        ({"text": "words", "label": ["bad", "fine"]}, "a value that bounds.json does not know"),
        ({"text": "words", "label": ["bad", "good", "so so"]}, "No row has the class 'so so'"),
    ],
)
def test_rows_that_are_not_as_was_told_are_refused(
    bounds: dict[str, Any], sentence: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bounds.json").write_text(json.dumps(bounds))
    with pytest.raises(DataError, match=sentence):
        train(folder, tmp_path / "home", bounds=tmp_path / "bounds.json")


def test_a_private_forest_takes_no_delta(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bounds.json").write_text(json.dumps({"age": {"min": 1, "max": 2}, "label": ["bad", "good"]}))
    with pytest.raises(SettingInvalid, match="its delta is 0; leave --privacy-delta out"):
        train(
            folder, tmp_path / "home", bounds=tmp_path / "bounds.json", model="dp_forest", privacy_delta=1e-6
        )
