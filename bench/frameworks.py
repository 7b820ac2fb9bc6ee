"""Each framework's trained form against the form that serves: seconds a call, and the memory that holds each.

    .venv-all/bin/python -m bench --only frameworks    # after `make setup-all`

Every model is made on the spot, taken in by ``servable.add`` as a user would, and loaded twice in fresh
processes that take turns: once as its framework left it, once in the form that was chosen. For PyTorch the
bare module is called as well, as a script would, and compared with the form that serves in one process in
turns of a fiftieth of a second, because a processor that is shared changes its speed from second to second.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import servable
from bench.paired import in_turn
from servable.artifact.manifest import TRAINED
from servable.artifact.package import open_package
from servable.frameworks import lookup
from servable.runtime.rehearsal import example_arrays

BATCHES = (1, 32)
#: Seconds that each form is called for with each number of rows.
_SECONDS = 0.7
#: Turns of the bare module and of the form that serves.
_PAIRS = 75
#: PyTorch's single row must be answered so many times faster than by the bare module.
EAGER = 3.0


class Made(NamedTuple):
    """A model file with what ``add`` has to be told, and the bare call of one row where there is one."""

    path: Path
    hints: Any = None
    trust: bool = False
    bare: Callable[[], Any] | None = None


def _table() -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def _sklearn(folder: Path) -> Made:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    skops.io.dump(RandomForestClassifier(200, random_state=0).fit(*_table()), folder / "model.skops")
    return Made(folder / "model.skops")


def _text(folder: Path) -> Made:
    import joblib
    from sklearn.datasets import load_breast_cancer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = load_breast_cancer().DESCR.split()
    texts = [" ".join(words[at : at + 30]) for at in range(0, len(words) - 30, 5)]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit(texts, [int("radius" in text) for text in texts])
    joblib.dump(pipeline, folder / "model.joblib")
    return Made(folder / "model.joblib", trust=True)


def _lightgbm(folder: Path) -> Made:
    import lightgbm

    rows, truth = _table()
    lightgbm.LGBMClassifier(n_estimators=200, verbose=-1).fit(rows, truth).booster_.save_model(
        folder / "model.txt"
    )
    return Made(folder / "model.txt")


def _xgboost(folder: Path) -> Made:
    import xgboost

    xgboost.XGBClassifier(n_estimators=200, max_depth=4).fit(*_table()).save_model(folder / "model.ubj")
    return Made(folder / "model.ubj")


def _catboost(folder: Path) -> Made:
    import catboost

    model = catboost.CatBoostClassifier(iterations=200, depth=4, verbose=False, allow_writing_files=False)
    model.fit(*_table()).save_model(str(folder / "model.cbm"))
    return Made(folder / "model.cbm")


def _torch(folder: Path) -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    parts: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    module = nn.Sequential(*parts, nn.Flatten(), nn.Linear(32, 10)).eval()
    row = torch.zeros(1, 1, 28, 28)
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(module, (torch.zeros(2, 1, 28, 28),), dynamic_shapes=({0: rows},))
    torch.export.save(program, folder / "model.pt2")

    def bare() -> Any:
        with torch.inference_mode():
            return module(row)

    return Made(folder / "model.pt2", _labels(10), bare=bare)


def _perceptron(folder: Path) -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    ).eval()
    row = torch.zeros(1, 30)
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(module, (torch.zeros(2, 30),), dynamic_shapes=({0: rows},))
    torch.export.save(program, folder / "model.pt2")

    def bare() -> Any:
        with torch.inference_mode():
            return module(row)

    return Made(folder / "model.pt2", _labels(2), bare=bare)


def _keras(folder: Path) -> Made:
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((30,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(2, "softmax")]
    keras.Sequential(layers).save(folder / "model.keras")
    return Made(folder / "model.keras", _labels(2))


def _transformers(folder: Path) -> Made:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "all"))
    import folders
    import transformers

    made = folders.saved(
        folder / "model", transformers.BertForSequenceClassification(folders.small(num_labels=2))
    )
    return Made(made)


def _labels(count: int) -> Any:
    from servable.frameworks.base import Hints

    return Hints(task="classification", labels=tuple(f"class {place}" for place in range(count)))


#: What is measured: the name, the library that it needs, and what makes the model.
MODELS: dict[str, tuple[str, Callable[[Path], Made]]] = {
    "scikit-learn, forest of 200": ("sklearn", _sklearn),
    "scikit-learn, TF-IDF and logistic regression": ("sklearn", _text),
    "LightGBM, 200 trees": ("lightgbm", _lightgbm),
    "XGBoost, 200 trees": ("xgboost", _xgboost),
    "CatBoost, 200 trees": ("catboost", _catboost),
    "PyTorch, convolutional network": ("torch", _torch),
    "PyTorch, perceptron": ("torch", _perceptron),
    "Keras, perceptron": ("keras", _keras),
    "transformers, BERT of two layers": ("transformers", _transformers),
}


def run(rounds: int) -> dict[str, Any]:
    """Measure every framework that is installed; the others are named.

    Returns:
        For each model the variant that serves, median seconds and MiB of both forms, and the bare call's.
    """
    found: dict[str, Any] = {}
    missing = []
    for name, (library, make) in MODELS.items():
        if importlib.util.find_spec(library) is None:
            missing.append(name)
            continue
        print(f"frameworks: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="servable-bench-") as folder:
            found[name] = _measured(Path(folder), make, rounds)
    return {"models": found, "missing": missing, "rounds": rounds}


def _measured(folder: Path, make: Callable[[Path], Made], rounds: int) -> dict[str, Any]:
    made = make(folder)
    more = {} if made.hints is None else {"hints": made.hints}
    outcome = servable.add(made.path, name="model", trust=made.trust, home=folder / "home", **more)
    turns: dict[str, list[dict[str, float]]] = {TRAINED: [], outcome.serving: []}
    for _ in range(rounds):
        for variant, told in turns.items():
            told.append(_held(Path(outcome.package), variant))
    forms = {
        variant: {key: statistics.median(one[key] for one in told) for key in told[0]}
        for variant, told in turns.items()
    }
    one = _calls(Path(outcome.package), outcome.serving)[1]
    bare = None if made.bare is None else _in_turn(made.bare, one)
    return {"serving": outcome.serving, "forms": forms, "bare": bare}


def _in_turn(bare: Callable[[], Any], serving: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a call of each, and how many times faster the second is: medians over pairs of turns."""
    turns = in_turn({"bare": bare, "serving": serving}, _PAIRS)
    faster = [one / other for one, other in zip(turns["bare"], turns["serving"], strict=True)]
    return {
        **{name: statistics.median(taken) for name, taken in turns.items()},
        "faster": statistics.median(faster),
    }


def _held(package: Path, variant: str) -> dict[str, float]:
    """Seconds and MiB of one form in a process of its own."""
    command = [sys.executable, "-m", "bench.frameworks", "--hold", str(package), variant]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{variant} of {package} cannot be measured: {ended.stderr[-400:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def _calls(folder: Path, name: str) -> dict[int, Callable[[], Any]]:
    """Calls of one form of a package, by how many rows they give."""
    package = open_package(folder)
    variant = package.manifest.variant(name)
    adapter = lookup.adapter(variant.format)
    predictor = adapter.load(folder, variant, package.signature, trust=package.manifest.trusted)
    row = example_arrays(package.signature)
    return {
        rows: partial(predictor.predict, {key: np.repeat(array, rows, axis=0) for key, array in row.items()})
        for rows in BATCHES
    }


def _hold(folder: Path, name: str) -> None:
    told = {str(rows): _median(call, _SECONDS) for rows, call in _calls(folder, name).items()}
    status = Path("/proc/self/status").read_text()
    told["mib"] = (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    )
    print(json.dumps(told))


def _median(call: Callable[[], Any], seconds: float) -> float:
    for _ in range(3):
        call()
    taken = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def report(found: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| model | serves as | trained, 1 row | serving, 1 row | faster | 32 rows | MiB trained | MiB now |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *_lines(found),
    ]
    if found["missing"]:
        lines += ["", f"Not installed here, so not measured: {', '.join(found['missing'])}."]
    return "\n".join(lines)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for name, told in found["models"].items():
        trained, serving = told["forms"][TRAINED], told["forms"][told["serving"]]
        yield (
            f"| {name} | {told['serving']} | {trained['1'] * 1e6:,.0f} µs | {serving['1'] * 1e6:,.0f} µs "
            f"| {trained['1'] / serving['1']:.1f}x | {trained['32'] / serving['32']:.1f}x "
            f"| {trained['mib']:.0f} | {serving['mib']:.0f} |"
        )
        if told["bare"] is not None:
            bare = told["bare"]
            yield (
                f"| the same module, called bare, in turn | | {bare['bare'] * 1e6:,.0f} µs "
                f"| {bare['serving'] * 1e6:,.0f} µs | {bare['faster']:.1f}x | | | |"
            )


def broken(found: dict[str, Any]) -> list[str]:
    """Models of PyTorch whose single row is not answered fast enough."""
    return [
        f"{name}: less than {EAGER:g} times the bare module"
        for name, told in found["models"].items()
        if told["bare"] is not None and told["bare"]["faster"] < EAGER
    ]


def main() -> None:
    """Hold one form and say what it costs; for ``run``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hold", nargs=2, metavar=("PACKAGE", "VARIANT"), required=True)
    package, variant = parser.parse_args().hold
    _hold(Path(package), variant)


if __name__ == "__main__":
    main()
