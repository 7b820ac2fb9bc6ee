"""Preparation steps of scikit-learn pipelines as graph nodes, in double and in scikit-learn's own order."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from servable.optimization.columns import Matrix, View, places_of
from servable.optimization.encoders import join, one_hot, ordinal
from servable.optimization.graph import OPSET, Graph, Unconvertible

Value = View | Matrix


def compile_step(graph: Graph, step: Any, value: Value) -> Value:
    """What a fitted transformer makes of a value.

    Raises:
        Unconvertible: neither this module nor skl2onnx knows the step in this use.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return value
    kind = type(step).__name__
    if kind in _ON_VIEWS and (isinstance(value, View) or kind == "Pipeline"):
        return _ON_VIEWS[kind](graph, step, value)
    if kind == "FunctionTransformer" and step.func is None:
        return value
    if kind == "SimpleImputer" and isinstance(value, View) and value.text():
        return _impute_text(graph, step, value)
    matrix = value.matrix() if isinstance(value, View) else value
    if kind in _ON_MATRICES:
        return _ON_MATRICES[kind](graph, step, matrix)
    return convert_elsewhere(graph, step, matrix.plain(graph))


def as_matrix(graph: Graph, value: Value) -> Matrix:
    """A value as numbers.

    Raises:
        Unconvertible: it holds text.
    """
    return value.matrix() if isinstance(value, View) else value


def _pipeline(graph: Graph, pipeline: Any, value: Value) -> Value:
    for _, step in pipeline.steps:
        value = compile_step(graph, step, value)
    return value


def _column_transformer(graph: Graph, transformer: Any, value: View) -> Matrix:
    known = [field.name for field in value.fields]
    parts: list[Matrix] = []
    for _, step, columns in transformer.transformers_:
        if isinstance(step, str) and step == "drop":
            continue
        places = places_of(columns, known, len(known))
        if not places:
            continue
        part = compile_step(graph, step, value._replace(fields=tuple(value.fields[p] for p in places)))
        parts.append(as_matrix(graph, part))
    if not parts:
        raise Unconvertible("the ColumnTransformer keeps no column")
    return join(graph, parts)


def _feature_union(graph: Graph, union: Any, value: View) -> Matrix:
    parts = [as_matrix(graph, compile_step(graph, step, value)) for _, step in union.transformer_list]
    return join(graph, parts)


def _standard_scaler(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    return _put_off(
        graph, matrix, step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None
    )


def _robust_scaler(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    center = step.center_ if step.with_centering else None
    return _put_off(graph, matrix, center, step.scale_ if step.with_scaling else None)


def _max_abs_scaler(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    return _put_off(graph, matrix, None, step.scale_)


def _put_off(graph: Graph, matrix: Matrix, shift: Any, scale: Any) -> Matrix:
    plain = matrix.plain(graph)
    shifts = np.zeros(plain.width) if shift is None else np.asarray(shift, dtype=np.float64)
    scales = np.ones(plain.width) if scale is None else np.asarray(scale, dtype=np.float64)
    return Matrix(plain.tensor, plain.width, shifts, scales)


def _min_max_scaler(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    tensor = graph.node("Mul", [matrix.plain(graph).tensor, graph.constant(step.scale_)])
    tensor = graph.node("Add", [tensor, graph.constant(step.min_)])
    if step.clip:
        low, high = step.feature_range
        tensor = graph.node("Max", [tensor, graph.constant(np.asarray(low, dtype=np.float64))])
        tensor = graph.node("Min", [tensor, graph.constant(np.asarray(high, dtype=np.float64))])
    return Matrix(tensor, matrix.width)


def _imputer(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    if not isinstance(step.missing_values, float) or not np.isnan(step.missing_values):
        raise Unconvertible(f"SimpleImputer looks for {step.missing_values!r} instead of NaN")
    plain = matrix.plain(graph)
    fill = np.asarray(step.statistics_, dtype=np.float64)
    kept = [place for place in range(plain.width) if step.keep_empty_features or not np.isnan(fill[place])]
    chosen = plain.select(graph, kept)
    absent = graph.node("IsNaN", [chosen.tensor])
    filled = Matrix(graph.node("Where", [absent, graph.constant(fill[kept]), chosen.tensor]), len(kept))
    if step.indicator_ is None:
        return filled
    marked = [int(place) for place in step.indicator_.features_]
    if not marked:
        return filled
    flags = graph.node("IsNaN", [plain.select(graph, marked).tensor])
    numbers = graph.node("Cast", [flags], to=TensorProto.DOUBLE)
    return join(graph, [filled, Matrix(numbers, len(marked))])


def _impute_text(graph: Graph, step: Any, view: View) -> Value:
    """On packed text a missing value is the empty string, which an imputer for NaN never sees."""
    missing = step.missing_values
    if view.style == "canonical" and isinstance(missing, float) and step.indicator_ is None:
        return view
    raise Unconvertible(f"SimpleImputer fills the text column {view.text()[0].name!r} (shown as {missing!r})")


def _date_parts(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    """The operations of ``transformers.civil_parts``, one for one."""
    del step
    plain = matrix.plain(graph)

    def number(value: float) -> str:
        return graph.constant(np.asarray(value, dtype=np.float64))

    def floor_div(tensor: str, by: float) -> str:
        return graph.node("Floor", [graph.node("Div", [tensor, number(by)])])

    def add(left: str, right: str) -> str:
        return graph.node("Add", [left, right])

    def sub(left: str, right: str) -> str:
        return graph.node("Sub", [left, right])

    def mul(tensor: str, by: float) -> str:
        return graph.node("Mul", [tensor, number(by)])

    seconds = plain.tensor
    days = floor_div(seconds, 86400.0)
    hour = floor_div(sub(seconds, mul(days, 86400.0)), 3600.0)
    shifted = add(days, number(719468.0))
    era = floor_div(shifted, 146097.0)
    day_of_era = sub(shifted, mul(era, 146097.0))
    leaps = add(
        sub(floor_div(day_of_era, 1460.0), floor_div(day_of_era, 36524.0)), floor_div(day_of_era, 146096.0)
    )
    year_of_era = floor_div(sub(day_of_era, leaps), 365.0)
    quarters = sub(floor_div(year_of_era, 4.0), floor_div(year_of_era, 100.0))
    day_of_year = sub(day_of_era, add(mul(year_of_era, 365.0), quarters))
    month_from_march = floor_div(add(mul(day_of_year, 5.0), number(2.0)), 153.0)
    passed = floor_div(add(mul(month_from_march, 153.0), number(2.0)), 5.0)
    day = add(sub(day_of_year, passed), number(1.0))
    wraps = floor_div(month_from_march, 10.0)
    month = sub(add(month_from_march, number(3.0)), mul(wraps, 12.0))
    year = add(add(year_of_era, mul(era, 400.0)), wraps)
    monday_based = add(days, number(3.0))
    weekday = sub(monday_based, mul(floor_div(monday_based, 7.0), 7.0))
    joined = graph.node("Concat", [days, year, month, day, weekday, hour], axis=1)
    by_column = [part * plain.width + column for column in range(plain.width) for part in range(6)]
    return Matrix(joined, 6 * plain.width).select(graph, by_column)


def convert_elsewhere(graph: Graph, step: Any, matrix: Matrix) -> Matrix:
    """A transformer through skl2onnx, fed with doubles.

    Raises:
        Unconvertible: skl2onnx does not know it, or makes more than one output.
    """
    outputs = absorb_converted(graph, step, matrix)
    if len(outputs) != 1:
        raise Unconvertible(f"{type(step).__name__} has {len(outputs)} outputs")
    width = len(step.get_feature_names_out())
    return Matrix(graph.node("Cast", [outputs[0]], to=TensorProto.DOUBLE), width)


def absorb_converted(graph: Graph, step: Any, matrix: Matrix, options: Any = None) -> list[str]:
    """Convert a fitted object by skl2onnx and take the result into the graph; its outputs' names."""
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType

    kind = type(step).__name__
    try:
        with warnings.catch_warnings():
            # skl2onnx warns about its own imports and about precision, which the proof settles.
            warnings.simplefilter("ignore")
            model = skl2onnx.to_onnx(
                step,
                initial_types=[("X", DoubleTensorType([None, matrix.width]))],
                target_opset=OPSET,
                options=options,
            )
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        first = str(foreign).strip().splitlines()
        raise Unconvertible(f"skl2onnx cannot convert {kind}: {first[0] if first else ''}"[:300]) from foreign
    return graph.absorb(model, {"X": matrix.tensor})


_ON_VIEWS: dict[str, Callable[[Graph, Any, Any], Value]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _feature_union,
    "OneHotEncoder": one_hot,
    "OrdinalEncoder": ordinal,
    "TargetEncoder": ordinal,
}
_ON_MATRICES: dict[str, Callable[[Graph, Any, Matrix], Matrix]] = {
    "StandardScaler": _standard_scaler,
    "RobustScaler": _robust_scaler,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "SimpleImputer": _imputer,
    "DateParts": _date_parts,
}
