"""Small pieces of what a training gives: the adapter's form, library versions, bare metrics."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Signature
from servable.frameworks.base import Trained
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training import measures

#: Libraries whose versions are kept with a trained model.
LIBRARIES = ("scikit-learn", "lightgbm", "numpy", "scipy", "pandas", "servable")


def trained_of(pipeline: Pipeline, signature: Signature) -> Trained:
    """A fitted pipeline in the form that the adapter named ``sklearn`` takes."""
    return Trained(model=pipeline, signature=signature, options={"style": "canonical"}, libraries=libraries())


def libraries() -> dict[str, str]:
    """Versions of the libraries that matter for loading a model again."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def metrics_of(
    signature: Signature, truth: NDArray[Any], answers: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """Only the metrics of answers, without curves or intervals."""
    if signature.task == "regression":
        return measures.regression(truth, answers[PREDICTION])
    return measures.classification(
        truth, answers[PREDICTION], answers.get(PROBABILITIES), len(signature.classes)
    )
