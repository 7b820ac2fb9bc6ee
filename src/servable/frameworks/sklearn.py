"""scikit-learn models and pipelines, LightGBM's scikit-learn classes inside them included.

Models are kept as ``.skops``, which holds data and no code. A pickle from elsewhere is opened only with
trust, and is kept as it came when it does not survive the way through skops.
"""

import copy
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
import skops.io as sio
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline

from servable.artifact.audit import audit_file, refusal
from servable.artifact.files import storage_errors, write_file
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import (
    ArtifactUnreadable,
    DependencyMissing,
    ModelFailed,
    ServableError,
    SettingInvalid,
    converted,
)
from servable.frameworks import sklearn_signature
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.frame import to_frame
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count

#: Types beyond skops' own list that are loaded from a ``.skops`` without being asked: data holders of
#: scikit-learn and LightGBM whose loading runs nothing of the file's choosing, and our own transformers.
ALLOWED = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "servable.frameworks.transformers.DateParts",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
#: Classifiers whose ``predict`` is the largest of ``predict_proba``, so that one call gives both.
_LARGEST_WINS = frozenset(
    {
        "DecisionTreeClassifier",
        "ExtraTreesClassifier",
        "LGBMClassifier",
        "RandomForestClassifier",
    }
)
_SKOPS = "model.skops"
#: Bytes of a ``.skops`` from which on it is compressed.
_LARGE = 8_000_000
#: Rows that a model learns on from at once.
_ONLINE_ROWS = 32
#: Where ``read`` keeps the path of the original for ``write``; never goes into a package.
_ORIGIN = "origin"


class SklearnPredictor:
    """A fitted model behind packed arrays. One call at a time."""

    concurrent = False

    def __init__(self, model: Any, signature: Signature, style: str) -> None:
        self._model = model
        self._signature = signature
        self._style = style
        self._classes = np.asarray(model.classes_) if signature.classes else None
        self._probabilities = signature.probabilities
        last = model.steps[-1][1] if isinstance(model, Pipeline) else model
        self._one_call = self._probabilities and type(last).__name__ in _LARGEST_WINS
        labels = () if self._classes is None else tuple(self._classes.tolist())
        self._numbered = bool(labels) and all(type(label) is int for label in labels)
        self._numbered = self._numbered and labels == tuple(range(len(labels)))

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows through the model's own ``predict`` and ``predict_proba``.

        Raises:
            ModelFailed: the model raised.
        """
        try:
            with warnings.catch_warnings():
                # Unknown categories and missing feature names are settled by the signature beforehand.
                warnings.simplefilter("ignore")
                return self._answer(self._given(arrays))
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The trained model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._model = None

    def _given(self, arrays: Arrays) -> Any:
        if self._style == "array":
            return arrays[NUMBERS]
        if self._style == sklearn_signature.TEXTS:
            return arrays[STRINGS][:, 0]
        return to_frame(arrays, self._signature, "pandas" if self._style == "pandas" else "canonical")

    def _answer(self, given: Any) -> dict[str, Any]:
        if self._one_call:
            probabilities = np.asarray(self._model.predict_proba(given))
            return {PREDICTION: np.argmax(probabilities, axis=1), PROBABILITIES: probabilities}
        raw = np.asarray(self._model.predict(given))
        if self._classes is None:
            kind = np.int64 if self._signature.task == "clustering" else np.float64
            flat = raw.reshape(len(raw), -1)
            return {PREDICTION: (flat[:, 0] if flat.shape[1] == 1 else flat).astype(kind)}
        answer = {PREDICTION: self._index(raw)}
        if self._probabilities:
            answer[PROBABILITIES] = np.asarray(self._model.predict_proba(given))
        return answer

    def _index(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Labels as places among the classes, which scikit-learn keeps sorted."""
        if self._numbered:
            return labels.astype(np.int64)
        return np.searchsorted(np.asarray(self._classes), labels).astype(np.int64)


class SklearnAdapter:
    """Models of scikit-learn and of LightGBM's scikit-learn classes."""

    name = "sklearn"
    suffixes = (".pkl", ".pickle", ".joblib", ".skops")

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a fitted model from a file; see the seam.

        Raises:
            ArtifactUnreadable: empty, truncated, or no fitted scikit-learn model.
            ArtifactUntrusted: it would execute code and ``trust`` is false; nothing was executed.
            ArtifactUnsupported: the model has no ``predict``.
            DependencyMissing: a library that the model needs is not installed.
            DataError: the sample does not fit the model.
        """
        model, notice = _open(path, trust=trust)
        signature, style = sklearn_signature.derive(model, sample)
        options = {"style": style, _ORIGIN: str(path), **({"notice": notice} if notice else {})}
        return Trained(model, signature, options, libraries_of(model))

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write the model as ``model.skops``; where that loses something, as the pickle it came from.

        A variant kept in that other way executes code when loaded, and its option ``executes`` says so.
        """
        options = {key: value for key, value in trained.options.items() if key != _ORIGIN}
        note = str(options.pop("notice", ""))
        data = _as_skops(trained)
        if data is not None:
            write_file(folder / _SKOPS, data)
            return Variant(name=TRAINED, format=self.name, path=_SKOPS, options=options, note=note)
        origin = trained.options.get(_ORIGIN)
        if origin is None:
            name = "model.joblib"
            with storage_errors("writing the model"):
                joblib.dump(trained.model, folder / name)
        else:
            name = f"model{Path(str(origin)).suffix.lower()}"
            with storage_errors("copying the model"):
                shutil.copyfile(str(origin), folder / name)
        options[EXECUTES] = True
        return Variant(name=TRAINED, format=self.name, path=name, options=options, note=note)

    def take(self, model: Any, *, sample: Any | None) -> Trained:
        """Take in a fitted model that is already in memory.

        Args:
            model: a fitted estimator or pipeline.
            sample: as in ``read``.

        Raises:
            ArtifactUnsupported: the model has no ``predict``.
            DataError: the sample does not fit the model.
        """
        signature, style = sklearn_signature.derive(model, sample)
        return Trained(model, signature, {"style": style}, libraries_of(model))

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory; see the seam.

        Raises:
            ArtifactUntrusted: it would execute code and ``trust`` is false.
            ArtifactUnreadable: damaged.
        """
        model, _ = _open(folder / variant.path, trust=trust)
        return Trained(model, signature, variant.options, libraries_of(model))

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        return SklearnPredictor(
            trained.model, trained.signature, str(trained.options.get("style", "canonical"))
        )

    def with_labels(self, trained: Trained, labels: Sequence[Any]) -> Trained:
        """The model as it is: what learns on here is told all classes at its first rows."""
        return trained

    def learn_on(self, trained: Trained, arrays: Arrays, truth: NDArray[Any]) -> Trained:
        """A pipeline of training after ``partial_fit``; what it prepares rows by stays as it is.

        Raises:
            SettingInvalid: its last step has no ``partial_fit``, or raised.
        """
        pipeline = copy.deepcopy(trained.model)
        steps = getattr(pipeline, "named_steps", {})
        model: Any = steps.get("model")
        if "prepare" not in steps or not hasattr(model, "partial_fit"):
            raise SettingInvalid(
                f"{type(model or pipeline).__name__} cannot learn on from where it is; leave --online out, "
                "or train one that can: servable train --online, or --model sgd or naive_bayes."
            )
        points = steps["prepare"].transform(to_frame(arrays, trained.signature, "canonical"))
        for start in range(0, len(points), _ONLINE_ROWS):
            part = slice(start, start + _ONLINE_ROWS)
            with converted({ValueError: SettingInvalid}, "The model cannot learn on: {}."):
                model.partial_fit(points[part], truth[part])
        return trained._replace(model=pipeline)


def libraries_of(model: Any) -> dict[str, str]:
    """Versions of the libraries that loading the model again depends on."""
    found = {"scikit-learn": sklearn.__version__, "numpy": np.__version__}
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    if any(type(step).__module__.startswith("lightgbm") for step in steps):
        # Only then is it needed, and it is slow to import.
        import lightgbm

        found["lightgbm"] = lightgbm.__version__
    return found


def _open(path: Path, *, trust: bool) -> tuple[Any, str]:
    """Load a model file, and a sentence about versions that differ (empty if none).

    Raises:
        ServableError: as ``read`` says.
    """
    audit = audit_file(path)
    allowed = sorted(set(audit.names) & ALLOWED) if audit.kind == "skops" else []
    if audit.kind == "skops":
        foreign = foreign_types(path)
        if foreign and not trust:
            raise refusal(path, audit._replace(names=tuple(foreign)))
        allowed = sorted({*allowed, *foreign, *ALLOWED})
    elif audit.kind not in ("pickle", "joblib"):
        raise ArtifactUnreadable(f"{path.name} holds {audit.kind}, not a scikit-learn model.")
    elif not trust:
        raise refusal(path, audit)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = _loaded(path, audit.kind, allowed)
    versions = [entry.message for entry in said if isinstance(entry.message, InconsistentVersionWarning)]
    if not versions:
        return model, ""
    made = versions[0].original_sklearn_version
    return model, f"Made with scikit-learn {made}, loaded with {sklearn.__version__}; compare its answers."


def foreign_types(path: Path) -> list[str]:
    """The types in a ``.skops`` that nobody here vouches for, sorted.

    Raises:
        ArtifactUnreadable: damaged.
    """
    try:
        return sorted(set(sio.get_untrusted_types(file=path)) - ALLOWED)
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(f"{path.name} is a damaged .skops file; save or copy it again.") from foreign


def _loaded(path: Path, kind: str, allowed: list[str]) -> Any:
    """The object in a file that may be opened.

    Raises:
        DependencyMissing: it names a module that is not installed.
        ArtifactUnreadable: anything else that goes wrong.
    """
    try:
        if kind == "skops":
            return sio.load(path, trusted=allowed)
        return joblib.load(path)
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{path.name} needs the module {missing.name}, which is not installed; install what provides it."
        ) from missing
    except ServableError:
        raise
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        text = str(foreign).strip().splitlines()
        raise ArtifactUnreadable(
            f"{path.name} cannot be loaded ({type(foreign).__name__}: {text[0][:200] if text else ''}); "
            "save it again with the library versions installed here."
        ) from foreign


def _as_skops(trained: Trained) -> bytes | None:
    """The model in skops form, None when that is not possible or answers differently."""
    try:
        data: bytes = sio.dumps(trained.model)
        if len(data) > _LARGE:
            # A vocabulary takes hundreds of bytes for each token, nearly all of them the same.
            data = sio.dumps(trained.model, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        if set(sio.get_untrusted_types(data=data)) - ALLOWED:
            return None
        again = sio.loads(data, trusted=sorted(ALLOWED))
    except Exception:  # noqa: BLE001 - whatever skops cannot write is kept in its own form
        return None
    return data if _same_answers(trained, again) else None


def _same_answers(trained: Trained, again: Any) -> bool:
    """Whether a re-read model answers the signature's example row exactly as the first does."""
    style = str(trained.options.get("style", "canonical"))
    row = sklearn_signature.example_arrays(trained.signature)
    first = SklearnPredictor(trained.model, trained.signature, style).predict(row)
    second = SklearnPredictor(again, trained.signature, style).predict(row)
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


ADAPTER = SklearnAdapter()
