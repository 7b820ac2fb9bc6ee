"""The direct builders against the libraries, on models and rows that hypothesis makes."""

import warnings

import lightgbm
import numpy as np
import onnxruntime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.optimization import nasty
from servable.optimization.convert import convert
from thoroughness import examples

SETTINGS = settings(
    max_examples=examples(10),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CODES = 1


@st.composite
def tables(draw, *, missing: bool):
    """A matrix with a column of codes, one of few values, one of many; and labels that depend on them."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(60, 200))
    scale = draw(st.sampled_from([1.0, 1e-30, 1e6, 1e30]))
    matrix = np.column_stack(
        [
            generator.normal(size=rows) * scale,
            generator.integers(0, 40, rows),
            generator.choice([0.0, -0.0, 0.1, 0.3, 1e-36, -1e-36, 1.0], rows),
            np.round(generator.normal(size=rows), 1),
        ]
    )
    classes = draw(st.sampled_from([2, 3]))
    label = (matrix[:, 0] > 0).astype(int) + (matrix[:, 1] % 3 == 0) * (classes - 1)
    label = np.where(generator.random(rows) < 0.2, generator.integers(0, classes, rows), label)
    label = np.minimum(label, classes - 1)
    label[:classes] = range(classes)
    if missing:
        matrix[generator.random(matrix.shape) < 0.15] = np.nan
    return matrix, label


def check(model, matrix, label) -> None:
    with warnings.catch_warnings():
        # Tiny tables make the libraries talk.
        warnings.simplefilter("ignore")
        model.fit(matrix, label)
    names = ("a", "b", "c", "d")
    answer = Field(name="prediction", kind="category", dtype="int64", values=tuple(range(len(set(label)))))
    signature = Signature(
        task="classification",
        inputs=tuple(Field(name=name, kind="number", dtype="float64", missing=True) for name in names),
        outputs=(answer,),
        probabilities=True,
    )
    trained = Trained(model, signature, {"style": "array"}, {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(convert(trained), options)
    groups = nasty.make(trained, {"numbers": matrix})
    for name, rows in {"fitted rows": {"numbers": matrix}, **groups}.items():
        numbers = rows["numbers"]
        if isinstance(model, RandomForestClassifier) and np.abs(numbers[~np.isnan(numbers)]).max() > 3.4e38:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, probabilities = model.predict(numbers), model.predict_proba(numbers)
        got, given_probabilities = session.run(None, {"numbers": numbers})
        assert np.array_equal(expected, got), name
        assert np.abs(probabilities - given_probabilities).max() < 1e-12, name


@SETTINGS
@given(tables(missing=True), st.sampled_from([None, 3]), st.integers(0, 99))
def test_forests(table, depth, seed):
    check(RandomForestClassifier(5, max_depth=depth, random_state=seed), *table)


@SETTINGS
@given(tables(missing=True), st.booleans())
def test_histogram_boosting(table, categorical):
    codes = [CODES] if categorical else None
    check(
        HistGradientBoostingClassifier(
            max_iter=4, min_samples_leaf=5, categorical_features=codes, early_stopping=False
        ),
        *table,
    )


@SETTINGS
@given(
    st.booleans().flatmap(lambda missing: tables(missing=missing)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {"objective": "multiclassova"}, {"sigmoid": 0.7}]),
)
def test_lightgbm(table, categorical, zero_as_missing, use_missing, other):
    if len(set(table[1])) == 2:
        other = {key: value for key, value in other.items() if key != "objective"}
    model = lightgbm.LGBMClassifier(
        n_estimators=5,
        min_child_samples=3,
        min_data_per_group=3,
        verbose=-1,
        n_jobs=1,
        zero_as_missing=zero_as_missing,
        use_missing=use_missing,
        **({"categorical_feature": [CODES]} if categorical else {}),
        **other,
    )
    check(model, *table)
