"""Keeps TensorFlow from talking to people on its way in; imported before it."""

import logging
import os

# Read once, when the library is loaded: errors alone, and nothing about instructions of the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
for _name in ("tensorflow", "tf2onnx", "absl", "h5py"):
    logging.getLogger(_name).setLevel(logging.ERROR)
