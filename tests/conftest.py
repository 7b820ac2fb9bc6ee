"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from thoroughness import examples

# An example may take as long as a busy machine lets it: what has to be quick is measured where that is said.
settings.register_profile("servable", max_examples=examples(100), deadline=None)
settings.load_profile("servable")

ROOT = Path(__file__).resolve().parents[1]

# One thread per numeric library: the tests run beside each other and measure themselves.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: ``SERVABLE_SHARED_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("SERVABLE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder}; set SERVABLE_SHARED_DATA to their folder")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that does not exist yet."""
    return tmp_path / "home"
