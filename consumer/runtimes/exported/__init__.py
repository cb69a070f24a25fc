"""Runtimes of exported ONNX files: ONNX Runtime, OpenVINO, TensorRT."""
