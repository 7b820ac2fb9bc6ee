"""What compiled networks serve as where every framework is installed."""

#: Which of them is faster on this machine is measured, and tests expect neither.
COMPILED = ("onnx-fp32", "openvino-fp32")
