"""The recurrent network: learned with PyTorch, compiled, proven equal, and served without it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

import servable
from e2e.conftest import running_server
from servable.artifact.manifest import Variant
from servable.artifact.package import open_package
from servable.artifact.signature import Field, Signature
from servable.errors import ArtifactUnreadable
from servable.frameworks.lookup import adapter
from servable.frameworks.recurrent_weights import Description, Recurrent, shapes, write_recurrent
from servable.frameworks.text_numbers import numberer
from servable.frameworks.text_program import Numbering
from servable.frameworks.text_tokens import Analyzer
from servable.optimization import parity
from servable.optimization.choose import optimise
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
pytestmark = pytest.mark.frameworks

VOCABULARY = ("a", "the", "film", "book", "is", "was", "not", "good", "bad", "great", "好", "差")
TEXTS = ["a good film", "", "not good", "the book was great, great!", "很好 差", "never seen " * 100, "bad"]


def network(columns: int = 1, classes: int = 3) -> Recurrent:
    """A network with weights of chance."""
    fields = tuple(
        Field(name=f"text{place}", kind="text", dtype="str", missing=True, example="a good film")
        for place in range(columns)
    )
    values = tuple(f"class {place}" for place in range(classes))
    signature = Signature(
        task="classification",
        inputs=fields,
        outputs=(Field(name="label", kind="category", dtype="str", values=values),),
        probabilities=True,
        example={field.name: "a good film" for field in fields},
    )
    numbering = Numbering(
        columns=tuple(range(columns)),
        analyzer=Analyzer(unit="word", pattern=r"(?u)\w+|[^\w\s]"),
        vocabulary=VOCABULARY,
        length=24,
    )
    description = Description(signature=signature, numbering=numbering, width=8, hidden=6)
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32) for name, shape in shapes(description).items()
    }
    return Recurrent(description, weights)


def packed(texts: list[str], columns: int = 1) -> dict[str, Any]:
    array = np.empty((len(texts), columns), dtype=object)
    for place in range(columns):
        array[:, place] = texts[place:] + texts[:place]
    return {"strings": array}


def test_the_adapter_keeps_its_promises(tmp_path):
    write_recurrent(network(), tmp_path / "model")
    (tmp_path / "work").mkdir()
    specimen = Specimen(tmp_path / "model", packed(TEXTS), breakable="recurrent.json")
    check_adapter(adapter("recurrent"), specimen, tmp_path / "work")


@pytest.mark.parametrize("columns", [1, 2])
def test_the_compiled_network_answers_as_torch_does(tmp_path, columns):
    write_recurrent(network(columns), tmp_path / "model")
    trained = adapter("recurrent").read(tmp_path / "model", sample=None, trust=False)
    held = Variant(name="trained", format="recurrent", path="")
    found = optimise(trained, packed(TEXTS, columns), tmp_path, fallback=held, batches=(1,), tune=True)
    assert [variant.name for variant in found.variants] == ["trained", "text-fp32"], found.notes
    proof = found.variants[1].proof
    assert proof is not None
    assert proof.equal
    assert proof.rows > 100
    assert proof.worst_difference < 1e-4


def test_a_row_is_answered_alike_alone_and_among_longer_ones(tmp_path):
    write_recurrent(network(), tmp_path / "model")
    trained = adapter("recurrent").read(tmp_path / "model", sample=None, trust=False)
    model = adapter("recurrent").wrap(trained)
    together = model.predict(packed(TEXTS))
    for place, text in enumerate(TEXTS):
        alone = model.predict(packed([text]))
        part = {name: array[place : place + 1] for name, array in together.items()}
        assert parity.compare(part, alone, tolerance=1e-5).equal


def test_texts_become_numbers():
    numbers = numberer(network(2).description.numbering, 2)
    ids, lengths = numbers(np.array([["A good, film", "the"], ["", ""]], dtype=object))
    assert ids.tolist() == [[3, 10, 1, 5, 2, 4], [2, 0, 0, 0, 0, 0]]
    assert lengths.tolist() == [6, 1]


@pytest.mark.parametrize("change", ["weights", "sizes", "classes", "vocabulary", "pattern"])
def test_a_changed_network_is_refused(tmp_path, change):
    model = network(classes=1 if change == "classes" else 3)
    write_recurrent(model, tmp_path / "model")
    path = tmp_path / "model" / "recurrent.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    if change == "sizes":
        said["hidden"] = 7
    elif change == "vocabulary":
        said["numbering"]["vocabulary"] = said["numbering"]["vocabulary"][1:]
    elif change == "pattern":
        said["numbering"]["analyzer"]["pattern"] = "(a+)+"
    path.write_text(json.dumps(said), encoding="utf-8")
    if change == "weights":
        arrays = model.weights | {"out.bias": np.zeros(3)}
        np.savez(tmp_path / "model" / "weights.npz", **arrays)
    with pytest.raises(ArtifactUnreadable) as refused:
        adapter("recurrent").read(tmp_path / "model", sample=None, trust=False)
    assert "\n" not in refused.value.message


def reviews(rows: int = 240) -> pd.DataFrame:
    """Sentences in which one word of many decides."""
    random = np.random.default_rng(0)
    filler = ["it", "that", "there", "here", "some", "of", "by", "with", "from", "under", "over", "into"]
    made = []
    for row in range(rows):
        label = ("bad", "good")[row % 2]
        words = [
            *random.choice(filler, 7),
            str(random.choice(["awful", "dire"] if label == "bad" else ["fine", "lovely"])),
        ]
        made.append((" ".join(random.permutation(words)), label))
    return pd.DataFrame(made, columns=["review", "label"])


@pytest.mark.timeout(900)
def test_it_learns_is_compared_and_served_without_torch(tmp_path: Path, home: Path) -> None:
    frame = reviews()
    outcome = servable.train(
        frame, target="label", name="reviews", model="recurrent", time_budget_s=20, deploy=True, home=home
    )
    assert outcome.metrics["accuracy"] > 0.9
    assert outcome.serving == "text-fp32"
    package = open_package(Path(outcome.package))
    assert package.manifest.framework == "recurrent"
    evaluation = json.loads((package.folder / "evaluation.json").read_bytes())
    assert [curve["label"] for curve in evaluation["learning"]] == [
        "loss, learned from",
        "loss, kept aside",
        "accuracy, kept aside",
    ]
    assert "Learning curves" in Path(outcome.report).read_text(encoding="utf-8")
    texts = frame["review"].tolist()[:40] + TEXTS
    trained = adapter("recurrent").load(
        package.folder, package.manifest.variant("trained"), package.signature, trust=False
    )
    expected = trained.predict(packed(texts))["probabilities"]
    with running_server(home) as url:
        answer = httpx.post(f"{url}/models/reviews/predict", json={"inputs": [[text] for text in texts]})
        assert answer.status_code == 200, answer.text
        given = [[row["bad"], row["good"]] for row in answer.json()["probabilities"]]
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_a_server_of_the_compiled_network_has_no_torch_in_memory(tmp_path):
    write_recurrent(network(), tmp_path / "model")
    trained = adapter("recurrent").read(tmp_path / "model", sample=None, trust=False)
    held = Variant(name="trained", format="recurrent", path="")
    optimise(trained, packed(TEXTS), tmp_path, fallback=held, batches=(1,))
    code = f"""
        import sys
        import numpy as np
        from pathlib import Path
        from servable.frameworks.lookup import adapter
        text = adapter("text")
        model = text.read(Path({str(tmp_path / "variants" / "text-fp32")!r}), sample=None, trust=False)
        text.wrap(model).predict({{"strings": np.array([["a good film"]], dtype=object)}})
        heavy = {{"torch", "sklearn", "pandas", "scipy"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.timeout(900)
def test_families_are_compared_with_the_cost_of_a_row():
    board = servable.select(
        reviews(), target="label", models=["words", "recurrent"], folds=2, time_budget_s=30
    )
    rows = {entry.name: entry for entry in board.entries}
    assert set(rows) == {"dummy", "words", "recurrent"}
    assert rows["recurrent"].served_variant == "text-fp32"
    assert rows["words"].served_variant == "text"
    assert all(row.served_us_per_row for row in board.entries)
    assert rows["recurrent"].score > 0.9
