"""LightGBM's own model files (``.txt``, as ``Booster.save_model`` writes them). They hold data and no code.

LightGBM trusts what such a file says, so its structure is checked here before the library sees it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from servable.artifact.manifest import Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, DataError
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.boosted import (
    CODED,
    ORIGIN,
    SCORES,
    Answers,
    BoostedPredictor,
    Coder,
    Column,
    coded_of,
    first_line,
    kept,
    signature_of,
)
from servable.frameworks.lightgbm_check import check

_FILE = "model.txt"


class LightgbmAdapter:
    """Boosters of LightGBM."""

    name = "lightgbm"
    suffixes = (".txt",)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model file; see the seam. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: empty, truncated, damaged or no LightGBM model.
            ArtifactUnsupported: it gives several values that are no classes.
            DataError: the sample does not fit the model, or one is needed.
            SettingInvalid: a hint contradicts the model.
        """
        check(path)
        booster = _loaded(path)
        dump = booster.dump_model(num_iteration=1)
        columns = list(_columns(dump, sample))
        answers = _answers(dump)
        signature = signature_of(columns, answers, sample, hints)
        options = {SCORES: answers.scores, CODED: coded_of(columns, signature), ORIGIN: str(path)}
        return Trained(booster, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file into the package."""
        return kept(trained, folder, self.name, _FILE)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory.

        Raises:
            ArtifactUnreadable: damaged.
        """
        return Trained(_loaded(folder / variant.path), signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        coder = Coder(trained.signature, trained.options[CODED])
        booster = trained.model
        return BoostedPredictor(
            lambda arrays: booster.predict(coder.matrix(arrays), num_threads=1), trained.options[SCORES]
        )


def _libraries() -> dict[str, str]:
    return {"lightgbm": lightgbm.__version__, "numpy": np.__version__}


def _loaded(path: Path) -> Any:
    try:
        return lightgbm.Booster(model_file=str(path))
    except (lightgbm.basic.LightGBMError, ValueError, UnicodeDecodeError) as foreign:
        raise ArtifactUnreadable(
            f"{path.name} is no LightGBM model that can be loaded ({first_line(foreign)}); save it again."
        ) from foreign


def _columns(dump: Mapping[str, Any], sample: Any | None) -> Iterator[Column]:
    """The features. Categories that pandas kept are coded by their places, others are their own codes.

    Raises:
        DataError: the file does not say which columns its categories are of, and there is no sample.
    """
    kept_categories = dump.get("pandas_categorical") or []
    names = list(dump["feature_names"])
    infos = dump["feature_infos"]
    made_up = names == [f"Column_{place}" for place in range(len(names))]
    categorical = [name for name in names if infos.get(name, {}).get("values")]
    if len(categorical) != len(kept_categories) and kept_categories:
        categorical = _texts_of(sample, names, len(kept_categories))
    known = dict(zip(categorical, kept_categories, strict=True)) if kept_categories else {}
    for name in names:
        shown = "" if made_up else name
        if name in known:
            yield Column(shown, "coded", tuple(known[name]))
        elif values := infos.get(name, {}).get("values"):
            yield Column(shown, "whole", tuple(sorted(int(value) for value in values if value >= 0)))
        else:
            yield Column(shown)


def _texts_of(sample: Any | None, names: list[str], count: int) -> list[str]:
    """The columns of the sample that are no numbers, where they are as many as the kept categories.

    Raises:
        DataError: they are not, or there is no sample.
    """
    if sample is not None:
        texts = {re.sub(r"\s", "_", str(name)) for name in sample if sample[name].dtype.kind not in "biuf"}
        found = [name for name in names if name in texts]
        if len(found) == count:
            return found
    raise DataError(
        f"The model keeps the categories of {count} columns without saying which they are; "
        "add --sample with rows in which those columns, and no others, are text."
    )


def _answers(dump: Mapping[str, Any]) -> Answers:
    """What the scores mean, by the objective.

    Raises:
        ArtifactUnsupported: several values that are no classes.
    """
    objective = str(dump.get("objective", "")).split()
    name = objective[0] if objective else ""
    if name == "binary":
        return Answers("positive", (0, 1))
    if name in ("multiclass", "multiclassova"):
        return Answers("rows", tuple(range(int(dump["num_class"]))))
    if int(dump["num_tree_per_iteration"]) > 1:
        raise ArtifactUnsupported(
            f"The model gives {dump['num_tree_per_iteration']} values a row with an objective of its "
            "trainer's own, which is not served."
        )
    return Answers("values")


ADAPTER = LightgbmAdapter()
