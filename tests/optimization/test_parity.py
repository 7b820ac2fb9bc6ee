import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from servable.artifact.manifest import Proof
from servable.errors import ParityFailed
from servable.optimization.parity import compare, require, together


def answers(labels, probabilities):
    return {"prediction": np.asarray(labels), "probabilities": np.asarray(probabilities, dtype=float)}


SAME = answers([0, 1], [[0.6, 0.4], [0.2, 0.8]])


def test_equal_answers_are_equal():
    assert compare(SAME, SAME) == Proof(equal=True, rows=2)


def test_one_other_label_is_refused():
    proof = compare(SAME, answers([0, 0], SAME["probabilities"]))
    assert not proof.equal
    assert proof.label_differences == 1
    assert proof.reason == "1 of 2 rows get another label"


def test_a_tie_excuses_nothing():
    tie = answers([0], [[0.5, 0.5]])
    assert not compare(tie, answers([1], [[0.5, 0.5]])).equal


def test_a_probability_beyond_the_tolerance_is_refused_and_within_it_is_not():
    moved = answers([0, 1], [[0.6, 0.4], [0.27, 0.73]])
    proof = compare(SAME, moved)
    assert proof.worst_difference == pytest.approx(0.07)
    assert "0.07" in proof.reason
    assert compare(SAME, moved, tolerance=0.5).equal


def test_large_values_are_compared_relatively():
    assert compare({"prediction": np.array([1e9])}, {"prediction": np.array([1e9 + 1])}).equal
    assert not compare({"prediction": np.array([1e9])}, {"prediction": np.array([1.001e9])}).equal


@pytest.mark.parametrize(("left", "right"), [(np.nan, 1.0), (np.inf, -np.inf), (1.0, np.inf), (0.0, np.nan)])
def test_missing_and_infinite_values_equal_only_themselves(left, right):
    assert not compare({"prediction": np.array([left])}, {"prediction": np.array([right])}).equal
    assert compare({"prediction": np.array([left])}, {"prediction": np.array([left])}).equal


def test_another_form_is_refused():
    assert "gives no probabilities" in compare(SAME, {"prediction": SAME["prediction"]}).reason
    assert "shape" in compare(SAME, answers([0, 1], [[1.0], [1.0]])).reason


def test_together_is_equal_only_if_all_are():
    good = compare(SAME, SAME)
    bad = compare(SAME, answers([1, 1], SAME["probabilities"]))
    assert together({"a": good, "b": good}).rows == 4
    joined = together({"held-out rows": good, "missing": bad})
    assert not joined.equal
    assert joined.reason.startswith("missing: ")
    with pytest.raises(ParityFailed, match="onnx-fp32 does not answer"):
        require(joined, "onnx-fp32")
    require(good, "onnx-fp64")


@pytest.mark.parametrize(
    ("said", "equal"),
    [
        ('[{"entity":"PER","score":0.91}]', True),
        ('[{"entity":"PER","score":0.910004}]', True),
        ('[{"entity":"PER","score":0.92}]', False),
        ('[{"entity":"LOC","score":0.91}]', False),
        ('[{"entity":"PER","score":0.91},{"entity":"PER","score":0.91}]', False),
        ("[]", False),
        (None, False),
    ],
)
def test_texts_are_the_same_but_for_fractions_in_them(said, equal):
    one = {"entities": np.array(['[{"entity":"PER","score":0.91}]', "[]"], dtype=object)}
    other = {"entities": np.array([said, "[]"], dtype=object)}
    proof = compare(one, other)
    assert (proof.equal, proof.label_differences) == (equal, 0 if equal else 1)


floats = arrays(np.float64, 5, elements=st.floats(width=64))


@given(floats, floats, st.floats(0, 1))
def test_the_verdict_is_the_definition(left, right, tolerance):
    proof = compare({"prediction": left}, {"prediction": right}, tolerance=tolerance)
    fits = []
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        if a == b or (a != a and b != b):
            fits.append(True)
        elif not (np.isfinite(a) and np.isfinite(b)):
            fits.append(False)
        else:
            with np.errstate(all="ignore"):
                gap = abs(np.float64(a) - np.float64(b))
                fits.append(bool(gap <= tolerance or gap / abs(np.float64(a)) <= tolerance))
    assert proof.equal == all(fits)
