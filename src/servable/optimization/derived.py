"""Forms made from a compiled form that was proven: its graph on another library, or in another precision.

The forms of ``forms`` are made from the trained model; these are made from the file of a variant, whatever
framework it came from. One module for each way of making them says ``derived(variant, folder)``; ``choose``
proves and times what they make like every other form.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from servable.artifact.manifest import Variant
from servable.optimization.forms import Form

#: The modules, in the order in which their forms are tried.
MODULES = ("servable.optimization.openvino_forms",)
#: The format of variants that others can be made from.
_FORMAT = "onnx"


def source(variants: Sequence[Variant]) -> Variant | None:
    """The variant to make others from, None when there is none; pure.

    Of several the last, because forms are tried best precision first: the one that rounds most and is still
    equal has the least to be rounded by the libraries that compute in single precision.

    Args:
        variants: the trained form, then those that were proven equal.
    """
    return next((each for each in reversed(variants) if each.format == _FORMAT), None)


def exact(variants: Sequence[Variant], folder: Path) -> tuple[Form, ...]:
    """The forms to try that are to answer as the variant does from which they are made.

    Args:
        variants: those to choose from, see ``source``.
        folder: the package in which their files lie.
    """
    variant = source(variants)
    return () if variant is None else tuple(form for form in derived(variant, folder) if not form.lossy)


def lossy(variant: Variant, folder: Path) -> tuple[Form, ...]:
    """Those that answer a little differently on purpose; about them a metric decides."""
    return tuple(form for form in derived(variant, folder) if form.lossy)


def derived(variant: Variant, folder: Path) -> tuple[Form, ...]:
    """The forms to try that are made from a variant; none where no library for them is installed.

    Args:
        variant: of a format that others can be made from.
        folder: the package in which its files lie, which the forms read when they are made.
    """
    found: list[Form] = []
    for module in MODULES:
        found.extend(importlib.import_module(module).derived(variant, folder))
    return tuple(found)
