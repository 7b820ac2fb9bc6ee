"""The public face: what is promised can be imported, and importing it is quick."""

import statistics
import subprocess
import sys

import pytest

import servable


def test_all_is_sorted_and_importable() -> None:
    assert servable.__all__ == sorted(servable.__all__)
    for name in servable.__all__:
        assert getattr(servable, name) is not None
    assert set(servable.__all__) <= set(dir(servable))


def test_public_functions_stay_functions_after_everything_is_imported() -> None:
    """A part whose name equals a public function would replace it in the namespace."""
    for name in ("add", "deploy", "evaluate", "optimize", "select", "serve", "train"):
        assert callable(getattr(servable, name)), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        servable.no_such_name  # noqa: B018 - the access is what is tested


def test_import_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import servable; "
        "print(time.perf_counter() - start); "
        "print([m for m in ('numpy', 'pandas', 'sklearn', 'onnxruntime', 'typer') if m in sys.modules])"
    )
    seconds = []
    for _ in range(5):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        duration, heavy = run.stdout.splitlines()
        seconds.append(float(duration))
        assert heavy == "[]"
    assert statistics.median(seconds) < 0.150
