"""Records what the forms of a model answer to its example, to hold every later load against it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import SELF_CHECK_FILE, TRAINED, WANDERS, Variant
from servable.artifact.selfcheck import Recorded, write_recorded
from servable.errors import ServableError
from servable.frameworks import lookup
from servable.frameworks.base import Predictor, Trained
from servable.optimization.parity import compare
from servable.runtime.rehearsal import example_arrays
from servable.tensors import Arrays

#: Most bytes of a row that is kept with its answers.
_LARGEST = 16 * 1024 * 1024
_TOO_LARGE = "its example is too large to be kept"
_NO_ARRAYS = "its answer is neither numbers nor texts"


def recorded(
    trained: Trained, variants: tuple[Variant, ...], folder: Path, *, trust: bool
) -> tuple[Variant, ...]:
    """Write the example and the answers to it into a package that is being made.

    The trained form and those that differ from it on purpose are asked, each twice; a form that was proven
    equal is held against the answer of the trained one.

    Args:
        trained: the model.
        variants: all forms that the package holds; their files are in the folder.
        folder: the package.
        trust: whether a form that executes code may be loaded.

    Returns:
        The variants, with the reason in those whose answers nothing can be held against.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    # Those of an earlier package may have been copied.
    (folder / SELF_CHECK_FILE).unlink(missing_ok=True)
    try:
        row = example_arrays(trained.signature)
    except ServableError as error:
        return _unchecked(variants, f"its example cannot be used: {error.message.rstrip('.')}")
    if sum(array.nbytes for array in row.values()) > _LARGEST:
        return _unchecked(variants, _TOO_LARGE)
    answers: dict[str, Arrays] = {}
    reasons: dict[str, str] = {}
    for variant in variants:
        if proven_equal(variant):
            continue
        with _opened(trained, variant, folder, trust) as predictor:
            answered = _answered(predictor, row)
        if isinstance(answered, str):
            reasons[variant.name] = answered
        else:
            answers[variant.name] = answered
    if answers:
        write_recorded(folder, Recorded(row, answers))
    return tuple(_noted(variant, reasons) for variant in variants)


def proven_equal(variant: Variant) -> bool:
    """Whether a form must answer as the trained one does."""
    return variant.proof is not None and variant.proof.equal


def _noted(variant: Variant, reasons: dict[str, str]) -> Variant:
    whose = TRAINED if proven_equal(variant) else variant.name
    return msgspec.structs.replace(variant, unchecked=reasons.get(whose, ""))


def _unchecked(variants: tuple[Variant, ...], reason: str) -> tuple[Variant, ...]:
    return tuple(msgspec.structs.replace(variant, unchecked=reason) for variant in variants)


@contextmanager
def _opened(trained: Trained, variant: Variant, folder: Path, trust: bool) -> Iterator[Predictor]:
    adapter = lookup.adapter(variant.format)
    if variant.name == TRAINED:
        predictor = adapter.wrap(trained)
    else:
        predictor = adapter.load(folder, variant, trained.signature, trust=trust)
    try:
        yield predictor
    finally:
        predictor.close()


def _answered(predictor: Predictor, row: Arrays) -> Arrays | str:
    """The answer to the row; why it says nothing where it does not, without a full stop."""
    try:
        # Copied, because a predictor may write its next answer into the same memory.
        kept = {name: np.array(array) for name, array in predictor.predict(row).items()}
        second = predictor.predict(row)
    except ServableError as error:
        return f"it does not answer its example: {error.message.rstrip('.')}"
    if not compare(kept, second).equal:
        return WANDERS
    if any(_holds_more_than_texts(array) for array in kept.values()):
        return _NO_ARRAYS
    return kept


def _holds_more_than_texts(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "O" and not all(isinstance(value, str) for value in array.ravel().tolist())
