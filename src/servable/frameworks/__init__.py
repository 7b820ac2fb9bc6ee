"""Adapters: one file per framework, imported only when that framework is named."""

import os

# onnxruntime sends to its maker what it is used for, unless it is told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
