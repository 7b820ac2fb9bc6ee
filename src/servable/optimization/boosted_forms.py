"""The compiled forms of boosters that are no scikit-learn estimators: one graph over the packed inputs.

LightGBM and CatBoost compute in double, so their exact form is one in double, beside a lighter one in single
precision; XGBoost computes in single precision, so that is its exact form.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper

from servable.artifact.files import write_file
from servable.artifact.manifest import Variant
from servable.artifact.signature import Field
from servable.frameworks.base import Trained
from servable.frameworks.boosted import CODED, LOSS, ROUNDS
from servable.optimization import boosters
from servable.optimization.columns import Matrix, Source
from servable.optimization.convert import feeds, finished
from servable.optimization.encoders import join
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import ML, Graph, Unconvertible
from servable.optimization.targets import Answer, Target
from servable.tensors import STRINGS

_PRECISIONS = {
    "lightgbm": (("onnx-fp64", False), ("onnx-fp32", True)),
    "xgboost": (("onnx-fp32", True),),
    "catboost": (("onnx-fp64", False),),
}


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    precisions = _PRECISIONS[boosters.library_of(trained.model)]
    return tuple(Form(name, partial(_make, trained, name, single)) for name, single in precisions)


def _make(trained: Trained, name: str, single: bool, folder: Path) -> Variant:
    """Compile and write.

    Raises:
        Unconvertible: a part of the model has no compiled form.
    """
    path = f"{FOLDER}/{name}.onnx"
    write_file(folder / path, convert(trained, single=single))
    return Variant(name=name, format="onnx", path=path, options=feeds(trained.signature))


def convert(trained: Trained, *, single: bool) -> bytes:
    """Compile a booster; inputs and outputs as in ``convert.convert``.

    Raises:
        Unconvertible: a part has no compiled form; the text names it.
    """
    target = Target(Graph(), single)
    library = boosters.library_of(trained.model)
    answer = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}[library](target, trained)
    return finished(target.graph, trained.signature, answer, library)


def _lightgbm(target: Target, trained: Trained) -> Answer:
    matrix = _matrix(target.graph, trained, trained.options[CODED])
    return boosters.lightgbm(target, trained.model.dump_model(), matrix, coded=True)


def _xgboost(target: Target, trained: Trained) -> Answer:
    matrix = _matrix(target.graph, trained, trained.options[CODED])
    model = boosters.xgboost_json(trained.model)
    return boosters.xgboost(target, model, matrix, int(trained.options[ROUNDS]))


def _catboost(target: Target, trained: Trained) -> Answer:
    """Categories become their places among the known ones, others a code that no split asks for."""
    fields = trained.signature.inputs
    every = {place: [str(value) for value in field.values] for place, field in enumerate(fields)}
    categorical = set(trained.model.get_cat_feature_indices())
    texts = {place: values for place, values in every.items() if place in categorical}
    unseen = [fields[place].name for place, values in texts.items() if not values]
    # Without the texts of all columns the library tells no hashes at all.
    model = boosters.catboost_json(trained.model, {} if unseen else texts)
    hashes = {str(e["value"]): int(e["hash"]) for e in model["features_info"].get("cat_features_hash") or ()}
    codes = {
        place: {hashes[text] & 0xFFFFFFFF: float(code) for code, text in enumerate(values) if text in hashes}
        for place, values in texts.items()
    }
    coded = {fields[place].name: fields[place].values for place in texts}
    matrix = _matrix(target.graph, trained, coded, other=-1.0)
    return boosters.catboost(target, model, matrix, codes, str(trained.options[LOSS]))


def _matrix(
    graph: Graph, trained: Trained, coded: Mapping[str, Sequence[Any]], *, other: float = np.nan
) -> Matrix:
    """The packed inputs as the model's matrix, with categories as codes."""
    source = Source(graph, trained.signature)
    fields = trained.signature.inputs
    if not coded:
        return source.numbers(fields)
    parts: list[Matrix] = []
    run: list[Field] = []
    for field in fields:
        if field.name not in coded:
            run.append(field)
            continue
        if run:
            parts.append(source.numbers(run))
            run = []
        parts.append(_codes(graph, source, field, coded[field.name], other))
    if run:
        parts.append(source.numbers(run))
    return join(graph, parts)


def _codes(graph: Graph, source: Source, field: Field, known: Sequence[Any], other: float) -> Matrix:
    """One column of codes."""
    if not known:
        raise Unconvertible(
            f"the categories of {field.name!r} are not known; add --sample with rows that hold them"
        )
    text = field.array == STRINGS
    column = (source.strings if text else source.numbers)((field,))
    attributes: dict[str, Any] = (
        {"keys_strings": [str(value) for value in known]}
        if text
        else {"keys_tensor": numpy_helper.from_array(np.asarray([float(v) for v in known]), "keys")}
    )
    codes = graph.node(
        "LabelEncoder",
        [column.tensor],
        domain=ML,
        values_tensor=numpy_helper.from_array(np.arange(len(known), dtype=np.float64), "values"),
        default_tensor=numpy_helper.from_array(np.asarray([other]), "other"),
        **attributes,
    )
    return Matrix(codes, 1, codes=frozenset({0}))
