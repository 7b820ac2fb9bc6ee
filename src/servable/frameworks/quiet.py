"""TensorFlow and what brings it, imported without their talk to people."""

import importlib
import logging
import os
import warnings
from typing import Any

#: The variables are read once, when the library is loaded: errors alone, nothing about the processor, and the
#: arithmetic that does not differ from machine to machine.
_VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def imported(name: str) -> Any:
    """A module of TensorFlow, Keras or tf2onnx.

    Raises:
        ModuleNotFoundError: it, or what it needs, is not installed.
    """
    for variable, value in _VARIABLES.items():
        os.environ.setdefault(variable, value)
    for logger in ("tensorflow", "tf2onnx", "absl", "h5py"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # What these libraries use of each other that is going away is for their makers to know.
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
