"""Rows made to be nasty: where a careless conversion answers differently.

Values exactly on the thresholds of trees and next to them in both precisions, extremes, missing values
where they are allowed, categories that nobody has seen where they are accepted. Made from a seed, so that
the same model gives the same rows.
"""

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.frameworks.frame import to_frame
from servable.optimization import trees
from servable.optimization.convert import steps_of
from servable.optimization.graph import Unconvertible
from servable.optimization.models import ensemble_of
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays, row_count, take

_THRESHOLD_ROWS = 1500
_VALUES_PER_COLUMN = 400
_COLUMNS_PER_EXTREME = 6
_TENSOR_ROWS = 8
#: Within float32's range; scikit-learn's trees refuse what lies beyond.
_EXTREMES = (
    0.0,
    -0.0,
    5e-324,
    1e-40,
    trees.NEAR_ZERO,
    -trees.NEAR_ZERO,
    float(np.nextafter(trees.NEAR_ZERO, 1)),
    float(np.nextafter(-trees.NEAR_ZERO, -1)),
    2.0**24 + 1,
    2.0**53 - 1,
    2.0**63,
    -(2.0**63),
    3.4e38,
    -3.4e38,
    1e300,
    -1e300,
)
_TEXTS = (
    "never seen",
    " ",
    "\u4e2d\u6587",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f600",
    "x" * 2000,
    "0",
    "nan",
    "None",
)

#: For free text, besides: where a careless tokenizer splits, folds or counts otherwise.
_PROSE = (
    "Stra\u00dfe STRASSE stra\u1e9ee",
    "\u0130stanbul ISPARTA \u0131s\u0131 I\u0307",
    "\u039f\u0394\u039f\u03a3 \u03bf\u03b4\u03bf\u03c2 \u03bf\u03b4\u03cc\u03c3",
    "caf\u00e9 cafe\u0301 CAF\u00c9 na\u00efve \ufb01ne \u01c5 \u212a \u212b",
    "\u4e2d\u6587\u5206\u8bcd\u3002\u6d4b\u8bd5\uff0c\u5f88 \u597d",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0663\u0664\u0665 345 \uff13\uff14\uff15 \u00b2 \u00bd \u2167",
    "good \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f bad",
    "tab\there\nand\r\nthere\x0b\x0c\u00a0\u2003\u2028end  of   it ",
    "don't well-known foo_bar a b c 1 22 x.y@z.org http://a.b/c?d=e",
    "\x00\x1f\x7f\x85\ufeff\u200b",
    "\t\n  \n",
    "a",
    "word " * 5000,
    "\u597d" * 3000,
)
#: Real texts that are changed in every way.
_CHANGED_TEXTS = 12

#: LightGBM writes an infinite threshold as this number, so a saved model answers otherwise beyond it than
#: the model in memory did. Nothing can be equal to both there.
_LARGEST = 1e300

Groups = dict[str, dict[str, NDArray[Any]]]


def make(trained: Trained, sample: Arrays, *, seed: int = 0) -> Groups:
    """Nasty rows in groups by what is nasty about them.

    Args:
        trained: the model and its signature.
        sample: packed real rows, at least one; the other columns of each row come from them.
        seed: of the choice of rows and values.

    Returns:
        Name of the group to packed arrays, at least one row each. The trained model may refuse a group.
    """
    generator = np.random.default_rng(seed)
    signature = trained.signature
    groups: Groups = {}
    if NUMBERS in sample:
        values = _interesting(trained, sample)
        groups.update(_on_thresholds(signature, sample, values, generator))
        groups.update(_extremes(signature, sample, generator))
    for field in signature.inputs:
        if field.is_tensor and np.dtype(sample[field.name].dtype).kind == "f":
            groups.update(_tensors(field.name, sample, generator))
    groups.update(_missing(signature, sample, generator))
    if STRINGS in sample:
        groups.update(_texts(signature, sample, generator))
    return groups


def _free(field: Field) -> bool:
    """Whether any number may stand in this field."""
    return field.dtype != "bool" and not (field.values and field.unknown == "refuse")


def _interesting(trained: Trained, sample: Arrays) -> list[NDArray[np.float64]]:
    """For each number column, values to try: around thresholds if the model has any, else around samples."""
    found = thresholds_by_column(trained, sample)
    columns = []
    for place, _ in enumerate(trained.signature.packed(NUMBERS)):
        real = sample[NUMBERS][:, place]
        real = real[np.isfinite(real)]
        base = np.unique(np.concatenate([found.get(place, np.empty(0)), real[:50], [0.0]]))
        columns.append(neighbours(base))
    return columns


def neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values, their neighbours in float64 and in float32; none beyond 1e300."""
    infinity32 = np.float32(np.inf)
    # The neighbour of the largest number is infinity, which is filtered out below.
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
        near = [
            values,
            np.nextafter(values, np.inf),
            np.nextafter(values, -np.inf),
            short.astype(np.float64),
            np.nextafter(short, infinity32).astype(np.float64),
            np.nextafter(short, -infinity32).astype(np.float64),
        ]
    every: NDArray[np.float64] = np.unique(np.concatenate(near))
    usual: NDArray[np.float64] = every[np.abs(every) <= _LARGEST]
    return usual


def thresholds_by_column(trained: Trained, sample: Arrays) -> dict[int, NDArray[np.float64]]:
    """The thresholds of a tree model, brought back to the packed number columns.

    A column of the model's matrix is traced when it is an affine image of one number column; others, such
    as one-hot columns, have no threshold that a caller could hit.
    """
    *steps, model = steps_of(trained.model)
    try:
        ensemble = ensemble_of(model)
    except Unconvertible:
        return {}
    if ensemble is None:
        return {}
    found = trees.thresholds(ensemble)
    remapped = getattr(model, "_preprocessor", None)
    if remapped is not None:
        mask = np.asarray(model.is_categorical_)
        order = [*np.flatnonzero(mask).tolist(), *np.flatnonzero(~mask).tolist()]
        found = {order[feature]: values for feature, values in found.items()}
    traced: dict[int, NDArray[np.float64]] = {}
    for column, feature, gain, offset in _affine(trained, steps, sample):
        if feature in found:
            raw = (np.asarray(found[feature], dtype=np.float64) - offset) / gain
            traced[column] = np.concatenate([traced.get(column, np.empty(0)), raw[np.isfinite(raw)]])
    return traced


def _affine(trained: Trained, steps: list[Any], sample: Arrays) -> list[tuple[int, int, float, float]]:
    """Which matrix column is ``gain * number + offset`` of which number column, by trying three values."""
    fields = trained.signature.packed(NUMBERS)
    if not steps:
        # The model sees the columns in the order of the signature.
        every = [field.name for field in trained.signature.inputs]
        return [(place, every.index(field.name), 1.0, 0.0) for place, field in enumerate(fields)]
    found = []
    row = take(sample, slice(0, 1))
    for place, field in enumerate(fields):
        if not _free(field):
            continue
        probe = {name: np.repeat(array, 3, axis=0) for name, array in row.items()}
        probe[NUMBERS][:, place] = (0.0, 1.0, 2.0)
        matrix = _prepared(trained, steps, probe)
        step = matrix[1] - matrix[0]
        moved = (step != 0) & np.isclose(matrix[2] - matrix[1], step)
        found += [(place, int(j), float(step[j]), float(matrix[0, j])) for j in np.flatnonzero(moved)]
    return found


def _prepared(trained: Trained, steps: list[Any], arrays: Arrays) -> NDArray[np.float64]:
    """The model's matrix for packed rows."""
    style = str(trained.options.get("style", "canonical"))
    if style == "array":
        value: Any = arrays[NUMBERS]
    else:
        value = to_frame(arrays, trained.signature, "pandas" if style == "pandas" else "canonical")
    for step in steps:
        value = value if isinstance(step, str) or step is None else step.transform(value)
    dense = value.toarray() if hasattr(value, "toarray") else value
    return np.asarray(dense, dtype=np.float64)


def _copies(sample: Arrays, count: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Real rows drawn with repetition, free to change."""
    chosen = generator.integers(0, row_count(sample), count)
    return {name: np.array(array[chosen]) for name, array in sample.items()}


def _on_thresholds(
    signature: Signature, sample: Arrays, values: list[NDArray[np.float64]], generator: np.random.Generator
) -> Groups:
    """Rows with one number changed, and rows with all of them changed."""
    fields = signature.packed(NUMBERS)
    free = [place for place, field in enumerate(fields) if _free(field)]
    if not free:
        return {}
    every = _copies(sample, _THRESHOLD_ROWS // 3, generator)
    for place in free:
        every[NUMBERS][:, place] = generator.choice(values[place], len(every[NUMBERS]))
    per_column = min(_VALUES_PER_COLUMN, max(20, _THRESHOLD_ROWS // len(free)))
    places = np.repeat(free, per_column)
    one = _copies(sample, len(places), generator)
    one[NUMBERS][np.arange(len(places)), places] = np.concatenate(
        [generator.choice(values[place], per_column) for place in free]
    )
    return {"values on thresholds": one, "all values on thresholds": every}


def _extremes(signature: Signature, sample: Arrays, generator: np.random.Generator) -> Groups:
    """For each extreme, rows with it in one number each; a group of its own, since models may refuse it."""
    fields = signature.packed(NUMBERS)
    free = [place for place, field in enumerate(fields) if _free(field)]
    groups: Groups = {}
    for extreme in _EXTREMES if free else ():
        places = generator.permutation(free)[:_COLUMNS_PER_EXTREME]
        rows = _copies(sample, len(places), generator)
        rows[NUMBERS][np.arange(len(places)), places] = extreme
        groups[f"the extreme {extreme!r}"] = rows
    return groups


def _tensors(name: str, sample: Arrays, generator: np.random.Generator) -> Groups:
    """Rows whose tensor is all zeros, all one value, shuffled, or noise as wide as the real one and wider."""
    rows = _copies(sample, _TENSOR_ROWS, generator)
    real = rows[name]
    spread = float(real.std()) or 1.0
    changed = {
        "zeros": np.zeros_like(real),
        "one value": np.full_like(real, real.max()),
        "shuffled": generator.permuted(real.reshape(len(real), -1), axis=1).reshape(real.shape),
        "noise": generator.normal(real.mean(), spread, real.shape).astype(real.dtype),
        "wide noise": generator.normal(real.mean(), 10 * spread, real.shape).astype(real.dtype),
    }
    return {f"{name}: {what}": {**rows, name: array} for what, array in changed.items()}


def _missing(signature: Signature, sample: Arrays, generator: np.random.Generator) -> Groups:
    """Rows that lack each value that may be missing, and rows that lack them all."""
    groups: Groups = {}
    for array, nothing in ((NUMBERS, np.nan), (STRINGS, MISSING_STRING)):
        may = [place for place, field in enumerate(signature.packed(array)) if field.missing]
        if not may:
            continue
        rows = _copies(sample, 4 * len(may) + 4, generator)
        for index, place in enumerate(may * 4):
            rows[array][index, place] = nothing
        rows[array][4 * len(may) :, may] = nothing
        groups[f"missing {array}"] = rows
    return groups


def _texts(signature: Signature, sample: Arrays, generator: np.random.Generator) -> Groups:
    """Rows with texts that nobody has seen, and with texts that look like known ones."""
    groups: Groups = {}
    for place, field in enumerate(signature.packed(STRINGS)):
        if field.unknown == "refuse" and field.values:
            texts = [str(value) for value in field.values]
        else:
            known = [str(value) for value in field.values[:5]]
            texts = [*_TEXTS, *known]
            if field.kind == "text":
                known = [str(text) for text in sample[STRINGS][:_CHANGED_TEXTS, place]]
                texts += [*_PROSE, *known, *_torn(known)]
            for value in known:
                texts += [f"{value} ", value.upper(), value.lower(), unicodedata.normalize("NFD", value)]
            texts = [text for text in texts if text != MISSING_STRING]
        rows = _copies(sample, len(texts), generator)
        rows[STRINGS][:, place] = texts
        groups[f"texts of {field.name}"] = rows
    return groups


def _torn(texts: list[str]) -> list[str]:
    """Real texts with their blanks changed, cut, doubled, and put together."""
    changed: list[str] = []
    for text in texts:
        changed += [
            text.replace(" ", "\t\n"),
            text.replace(" ", ""),
            text[: len(text) // 2],
            f"{text} {text}",
        ]
        changed += [text[::-1], text.title(), text.swapcase(), text.casefold()]
    return [*changed, "\n".join(texts)]
