"""Models in plain Python: what their types mean, what belongs to them, and what is said when it is wrong."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import servable
from servable.artifact.signature import Field
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUntrusted,
    DependencyMissing,
    FileMissing,
    InputError,
    ModelFailed,
    ServableError,
    SettingInvalid,
)
from servable.frameworks.base import NETWORK, NO_HINTS, STREAMS, Hints, Trained
from servable.frameworks.python import ADAPTER
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS
from serving import streaming_models


def written(folder: Path, text: str, name: str = "model.py") -> Path:
    file = folder / name
    file.write_text(
        "import asyncio, dataclasses, enum, servable, msgspec\n"
        "import numpy as np\nfrom datetime import datetime\nfrom numpy.typing import NDArray\n"
        "from collections.abc import AsyncIterator, Iterator\n"
        "from typing import Annotated, Any, Literal, TypedDict\n" + textwrap.dedent(text)
    )
    return file


def read(folder: Path, text: str, hints: Hints = NO_HINTS) -> Trained:
    return ADAPTER.read(written(folder, text), sample=None, trust=True, hints=hints)


def ask(trained: Trained, **arrays: Any) -> dict[str, Any]:
    predictor = ADAPTER.wrap(trained)
    answer = predictor.predict(arrays)
    predictor.close()
    return answer


def texts(*values: str) -> Any:
    return np.array([[value] for value in values], object)


def numbers(*rows: Any) -> Any:
    return np.array(rows, np.float64)


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("class A(servable.Model):\n    def predict(self, x: float) -> float: ...\n", False),
        (
            "class A(servable.Model):\n    network = True\n    def predict(self, x: float) -> float: ...\n",
            True,
        ),
        ("@servable.model\ndef a(x: float) -> float: ...\n", False),
        ("@servable.model(network=True)\ndef a(x: float) -> float: ...\n", True),
    ],
)
def test_who_calls_others_says_so(tmp_path: Path, text: str, declared: bool) -> None:
    assert (NETWORK in read(tmp_path, text).options) is declared


# ---------------------------------------------------------------------- types


def test_labels(tmp_path: Path) -> None:
    trained = read(
        tmp_path,
        """
        Label = Literal["bad", "good"]
        class Sentiment(servable.Model):
            example = {"text": "so good"}
            def load(self):
                self.word = "good"
            def predict(self, text: list[str]) -> list[Label]:
                return ["good" if self.word in each else "bad" for each in text]
        """,
    )
    signature = trained.signature
    assert (signature.task, signature.classes) == ("classification", ("bad", "good"))
    assert signature.inputs == (Field(name="text", kind="text", dtype="str"),)
    assert signature.example == {"text": "so good"}
    assert ask(trained, strings=texts("good", "no"))[PREDICTION].tolist() == [1, 0]


def test_probabilities(tmp_path: Path) -> None:
    trained = read(
        tmp_path,
        """
        def predict(x: float) -> dict[Literal["a", "b"], float]:
            return {"a": x, "b": 1 - x}
        """,
    )
    answer = ask(trained, numbers=numbers([0.25], [0.75]))
    assert trained.signature.probabilities
    assert answer[PREDICTION].tolist() == [1, 0]
    assert answer[PROBABILITIES].tolist() == [[0.25, 0.75], [0.75, 0.25]]


def test_all_kinds_of_columns(tmp_path: Path) -> None:
    trained = read(
        tmp_path,
        """
        class Size(enum.Enum):
            SMALL = "s"
            LARGE = "l"
        def predict(
            a: float, b: int, c: str, d: bool, e: datetime, f: Literal["x", "y"], g: Size,
            h: float | None, i: str | None
        ) -> str:
            return repr((a, b, c, d, e.year, f, g.name, h, i))
        """,
    )
    kinds = [(field.name, field.kind, field.dtype, field.missing) for field in trained.signature.inputs]
    assert kinds == [
        ("a", "number", "float64", False),
        ("b", "number", "int64", False),
        ("c", "text", "str", False),
        ("d", "boolean", "bool", False),
        ("e", "date", "datetime", False),
        ("f", "category", "str", False),
        ("g", "category", "str", False),
        ("h", "number", "float64", True),
        ("i", "text", "str", True),
    ]
    assert trained.signature.input("f").values == ("x", "y")
    assert trained.signature.input("g").unknown == "refuse"
    packed = {NUMBERS: numbers([1.5, 2, 1, 0, np.nan]), STRINGS: np.array([["t", "x", "l", ""]], object)}
    answer = ask(trained, **packed)
    assert answer["text"].tolist() == ["(1.5, 2, 't', True, 1970, 'x', 'LARGE', None, None)"]


@pytest.mark.parametrize(
    "kind",
    [
        "@dataclasses.dataclass\nclass Row:\n    age: int\n    plan: str",
        "class Row(msgspec.Struct):\n    age: int\n    plan: str",
        "class Row(TypedDict):\n    age: int\n    plan: str",
    ],
    ids=["dataclass", "struct", "typeddict"],
)
def test_records_in_and_out(tmp_path: Path, kind: str) -> None:
    look = "row['age'], row['plan']" if "TypedDict" in kind else "row.age, row.plan"
    text = kind + (
        "\nclass Out(TypedDict):\n    older: int\n    plan: str\n    sure: bool\n"
        "def predict(rows: list[Row]) -> list[Out]:\n"
        f"    pairs = [({look}) for row in rows]\n"
        "    return [Out(older=age + 1, plan=plan, sure=True) for age, plan in pairs]\n"
    )
    trained = read(tmp_path, text)
    assert [field.name for field in trained.signature.inputs] == ["age", "plan"]
    answer = ask(trained, numbers=numbers([1], [2]), strings=texts("a", "b"))
    assert [answer[name].tolist() for name in ("older", "plan", "sure")] == [[2, 3], ["a", "b"], [True, True]]
    assert [field.dtype for field in trained.signature.outputs] == ["int64", "str", "bool"]


def test_arrays_of_all_rows_and_of_one(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    whole = read(
        tmp_path,
        """
        def predict(
            x: Annotated[NDArray[np.float32], ("rows", 2, 3)]
        ) -> Annotated[NDArray[np.float32], ("rows", 2)]:
            return x.sum(axis=2)
        """,
    )
    single = read(
        tmp_path,
        """
        def predict(x: Annotated[NDArray[np.float32], (2, -1)]) -> list[float]:
            return [float(value) for value in x.sum(axis=1)]
        """,
    )
    assert whole.signature.inputs[0].shape == (2, 3)
    assert single.signature.inputs[0].shape == (2, -1)
    assert np.array_equal(ask(whole, x=image)["output"], image.sum(axis=2))
    assert np.array_equal(ask(single, x=image)["output"], image.sum(axis=2))


def test_numbers_out_are_a_regression_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    first = read(
        tmp_path, "def predict(x: list[float]) -> list[float]:\n    return [2 * each for each in x]\n"
    )
    assert first.signature.task == "regression"
    assert ask(first, numbers=numbers([1], [2]))[PREDICTION].tolist() == [2.0, 4.0]
    second = read(tmp_path, "def predict(x: list[int]) -> list[int]:\n    return [2 * each for each in x]\n")
    assert second.signature.task == "transform"
    assert ask(second, numbers=numbers([1], [2]))["value"].dtype == np.int64


def test_labels_from_outside_and_inputs_described(tmp_path: Path) -> None:
    age = Field(name="x", kind="number", dtype="float64", example=3.0, description="In years.")
    hints = Hints(labels=("no", "yes"), inputs=(age,))
    trained = read(
        tmp_path, "def predict(x: list[float]) -> list[str]:\n    return ['yes' for _ in x]\n", hints
    )
    assert (trained.signature.task, trained.signature.inputs) == ("classification", (age,))
    assert ask(trained, numbers=numbers([1]))[PREDICTION].tolist() == [1]
    with pytest.raises(SettingInvalid, match="takes x"):
        read(
            tmp_path,
            "def predict(x: float) -> float:\n    return x\n",
            Hints(inputs=(Field(name="no_such", kind="number", dtype="float64"),)),
        )


# ---------------------------------------------------------------------- ways to be called


def test_rows_of_an_async_model_wait_side_by_side(tmp_path: Path) -> None:
    trained = read(
        tmp_path,
        """
        class Meeting(servable.Model):
            async def load(self):
                self.here, self.all = 0, asyncio.Event()
            async def predict(self, x: float) -> float:
                self.here += 1
                if self.here == 3:
                    self.all.set()
                await self.all.wait()
                return x
        """,
    )
    assert ask(trained, numbers=numbers([1], [2], [3]))[PREDICTION].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators(tmp_path: Path, kind: str) -> None:
    out = "AsyncIterator" if "async" in kind else "Iterator"
    trained = read(
        tmp_path,
        f"closed = []\n{kind} predict(text: str) -> {out}[str]:\n"
        "    try:\n        for word in text.split():\n            yield word\n"
        "    finally:\n        closed.append(text)\n",
    )
    assert trained.options[STREAMS]
    assert ask(trained, strings=texts("a b", "c"))["text"].tolist() == ["ab", "c"]
    closed = trained.model.function.__globals__["closed"]
    predictor = ADAPTER.wrap(trained)
    pieces = predictor.stream({STRINGS: texts("d e f")})
    assert next(pieces)["text"].tolist() == ["d"]
    assert closed == ["a b", "c"]
    pieces.close()
    assert closed == ["a b", "c", "d e f"]


# ---------------------------------------------------------------------- files


def test_what_belongs_to_a_model_is_copied_and_nothing_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("good nice")
    (tmp_path / "helper.py").write_text("from deeper import add\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "__init__.py").write_text("def add(x):\n    return x + 1\n")
    (tmp_path / "unused.py").write_text("raise RuntimeError\n")
    trained = read(
        tmp_path,
        """
        from helper import add
        class Counting(servable.Model):
            files = ["words.txt"]
            def load(self):
                self.words = (self.folder / "words.txt").read_text().split()
            def predict(self, x: float) -> float:
                return add(x) + len(self.words)
        """,
    )
    package = tmp_path / "package"
    package.mkdir()
    variant = ADAPTER.write(trained, package)
    kept = sorted(file.relative_to(package).as_posix() for file in package.rglob("*") if file.is_file())
    assert kept == ["python/deeper/__init__.py", "python/helper.py", "python/model.py", "python/words.txt"]
    for name in ("words.txt", "helper.py", "model.py"):
        (tmp_path / name).unlink()
    loaded = ADAPTER.load(package, variant, trained.signature, trust=True)
    assert loaded.predict({NUMBERS: numbers([1])})[PREDICTION].tolist() == [4.0]


def test_models_with_modules_of_the_same_name_do_not_mix(tmp_path: Path) -> None:
    models = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "shared_name.py").write_text(f"NUMBER = {number}\n")
        models.append(
            read(
                folder, "import shared_name\ndef predict(x: float) -> float:\n    return shared_name.NUMBER\n"
            )
        )
    assert [ask(model, numbers=numbers([0]))[PREDICTION].tolist() for model in models] == [[1.0], [2.0]]


def test_nothing_runs_without_trust(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    file = written(
        tmp_path,
        f"open({str(marker)!r}, 'w').close()\nimport subprocess\ndef predict(x: float) -> float: ...\n",
    )
    with pytest.raises(ArtifactUntrusted, match="subprocess") as caught:
        ADAPTER.read(file, sample=None, trust=False)
    assert "--trust" in caught.value.message
    assert not marker.exists()
    trained = ADAPTER.read(file, sample=None, trust=True)
    marker.unlink()
    variant = ADAPTER.write(trained, tmp_path)
    with pytest.raises(ArtifactUntrusted):
        ADAPTER.load(tmp_path, variant, trained.signature, trust=False)
    assert not marker.exists()


# ---------------------------------------------------------------------- what is said

WRONG: list[tuple[str, str, type[ServableError], str]] = [
    ("no-type", "def predict(x) -> float: ...", SettingInvalid, r"parameter x has no type.*list\[str\]"),
    ("no-answer", "def predict(x: float): ...", SettingInvalid, "does not say what it gives back"),
    ("nothing", "def predict() -> float: ...", SettingInvalid, "takes nothing"),
    ("stars", "def predict(*x: float) -> float: ...", SettingInvalid, "one parameter for each input"),
    (
        "unknown",
        "def predict(x: complex) -> float: ...",
        SettingInvalid,
        "complex, which no request can hold",
    ),
    ("union", "def predict(x: int | str) -> float: ...", SettingInvalid, "no request can hold"),
    ("bare", "def predict(x: np.ndarray) -> float: ...", SettingInvalid, r"Annotated\[NDArray"),
    ("mixed", "def predict(x: list[float], y: float) -> list[float]: ...", SettingInvalid, "lists for all"),
    ("no-list", "def predict(x: list[float]) -> float: ...", SettingInvalid, "one answer for each row"),
    ("batch-pieces", "def predict(x: list[str]) -> Iterator[str]: ...", SettingInvalid, "takes one row"),
    ("lost-name", "def predict(x: 'Nowhere') -> float: ...", SettingInvalid, "Nowhere"),
    ("no-model", "x = 1", ArtifactUnreadable, r"servable.Model.*model.py:NAME"),
    (
        "two",
        "class A(servable.Model): ...\nclass B(servable.Model): ...",
        ArtifactUnreadable,
        "several models",
    ),
    ("no-predict", "class A(servable.Model): ...", ArtifactUnreadable, "has no predict"),
    ("syntax", "def predict(:", ArtifactUnreadable, "no Python .SyntaxError, line 7"),
    ("raises", "\nraise ValueError('because')", ArtifactUnreadable, "ValueError in line 8: because"),
    ("exits", "raise SystemExit(3)", ArtifactUnreadable, "SystemExit"),
    ("module", "import no_such_module_anywhere", DependencyMissing, "no_such_module_anywhere"),
    ("file", "class A(servable.Model):\n    files = ['gone.npz']", FileMissing, "gone.npz"),
    ("outside", "class A(servable.Model):\n    files = ['../x']", SettingInvalid, "beside it"),
    ("computed", "class A(servable.Model):\n    files = list('ab')", SettingInvalid, "plain list"),
    (
        "load",
        "class A(servable.Model):\n    def load(self):\n        open('/no/such')\n"
        "    def predict(self, x: float) -> float: ...",
        FileMissing,
        "/no/such",
    ),
    (
        "adds",
        "def predict(x: float) -> float: ...\nservable.add(predict, name='x')",
        InputError,
        "__main__",
    ),
]


@pytest.mark.parametrize(
    ("text", "error", "said"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG]
)
def test_one_clear_sentence(tmp_path: Path, text: str, error: type[ServableError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('a secret row')", "raised ValueError on 2 rows"),
        ("return x[:1]", "gave 1 answers to 2 rows"),
        ("return 3", "a int instead of 2 answers"),
        ("return ['a', 'b']", "what its types do not say"),
        ("return [None, None]", "what its types do not say"),
    ],
)
def test_answers_that_were_not_promised(
    tmp_path: Path, body: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    trained = read(tmp_path, f"def predict(x: list[float]) -> list[float]:\n    {body}\n")
    with pytest.raises(ModelFailed, match=said) as caught:
        ask(trained, numbers=numbers([1], [2]))
    assert "secret" not in caught.value.message
    if "ValueError" in said:
        # Whoever runs the server finds the place in its log.
        assert "a secret row" in caplog.text
        assert "model.py" in caplog.text


# ---------------------------------------------------------------------- things in memory


def test_classes_objects_and_functions_in_memory(tmp_path: Path) -> None:
    for thing in (streaming_models.Numbers, streaming_models.Numbers()):
        trained = ADAPTER.take(thing, sample=None)
        assert ask(trained, numbers=numbers([3]))["output"].tolist() == [[0.0, 1.0, 2.0]]


def test_an_object_whose_state_would_be_lost_is_refused() -> None:
    model = streaming_models.Numbers()
    model.learned = [1, 2, 3]  # type: ignore[attr-defined] - its own
    with pytest.raises(InputError, match="holds learned"):
        ADAPTER.take(model, sample=None)


def test_what_stands_in_no_file_is_refused() -> None:
    def inner(x: float) -> float:
        return x

    with pytest.raises(InputError, match="top of a file"):
        ADAPTER.take(inner, sample=None)


def test_a_marked_function_is_found_among_others(tmp_path: Path) -> None:
    trained = read(
        tmp_path,
        """
        def other(x: float) -> float:
            return 0.0
        @servable.model(example={"x": 7.0})
        def double(x: float) -> float:
            return 2 * x
        """,
    )
    assert trained.options["entry"] == "model.py:double"
    assert trained.signature.example == {"x": 7.0}


def test_added_by_name_from_python(tmp_path: Path) -> None:
    file = written(
        tmp_path, "def one(x: float) -> float:\n    return 1.0\ndef two(x: float) -> float:\n    return 2.0\n"
    )
    outcome = servable.add(f"{file}:two", name="two", trust=True, home=tmp_path / "home")
    assert (outcome.framework, outcome.task, outcome.serving) == ("python", "regression", "trained")
    again = servable.add(f"{file}:one", name="one", trust=True, home=tmp_path / "home")
    assert again.inputs == ("x",)
