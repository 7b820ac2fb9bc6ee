"""A model that answers its own example and does something terrible with one other row."""

import os
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from faults.swapping import NAME
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish
from serving.making import IRIS

#: The row.
ASKED = [6.0, 2.9, 4.5, 1.5]
FAULTS = ("errs", "crashes", "hangs")


class Faulty:
    """Sums rows; ``fault`` says what it does with ``ASKED``."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def predict(self, rows: Any) -> Any:
        if (rows == ASKED).all(axis=1).any():
            if self.fault == "errs":
                raise ValueError("no such row")
            if self.fault == "crashes":
                os._exit(3)
            time.sleep(600)
        return np.asarray(rows).sum(axis=1)


def publish_faulty(home: Path, fault: str) -> int:
    """The next version; it takes what the linear classifier takes."""
    signature = Signature(
        task="regression",
        inputs=IRIS.inputs,
        outputs=(Field(name="sum", kind="number", dtype="float64"),),
        example=IRIS.example,
    )
    with open_home(home) as opened, opened.packages.staging() as folder:
        write_signature(folder, signature)
        joblib.dump(Faulty(fault), folder / "model.joblib")
        options = {"style": "array", "executes": True}
        variant = Variant(name="trained", format="sklearn", path="model.joblib", options=options)
        manifest = Manifest(
            model=NAME,
            created_at="2026-01-31T12:00:00Z",
            framework="sklearn",
            variants=(variant,),
            trusted=True,
        )
        return publish(opened, folder, manifest).version
