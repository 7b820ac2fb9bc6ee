"""Keras and TensorFlow behind a real server: equal to the libraries, which the compiled form does without."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")
pytest.importorskip("keras", reason="needs the extra keras; make test-all has it")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

import servable
from all.serving import COMPILED
from e2e.asking import Wanted, check_served, let_the_trained_form_serve
from faults.load import family, serving
from frameworks import networks
from servable.frameworks.base import Hints

LABELS = ("a", "b", "c")


def holds_tensorflow(process: Any) -> bool:
    """Whether a server or one of its children has the library in memory."""
    return any("libtensorflow" in Path(f"/proc/{pid}/maps").read_text() for pid in family(process.pid))


@pytest.mark.parametrize("form", ["keras", "tensorflow"])
def test_both_forms_answer_as_the_library_does(form: str, tmp_path: Path, home: Path) -> None:
    make = networks.saved if form == "keras" else networks.exported
    path = make("pictures", tmp_path)
    given = networks.rows("pictures", 6)
    chances = networks.network("pictures").predict(given["picture"], verbose=0)
    wanted = Wanted([LABELS[index] for index in np.argmax(chances, axis=1)], chances)
    outcome = servable.add(path, name="net", hints=Hints(labels=LABELS), home=home, deploy=True)
    assert outcome.serving in COMPILED
    (name,) = outcome.inputs
    columns = {name: given["picture"]}
    with serving(home) as served:
        check_served(served.url, "net", columns, wanted, 1e-5)
        assert not holds_tensorflow(served.process)
    assert servable.optimize("net", home=home).serving in COMPILED
    let_the_trained_form_serve(home, "net")
    with serving(home) as served:
        check_served(served.url, "net", columns, wanted, 1e-5)
        assert holds_tensorflow(served.process)
