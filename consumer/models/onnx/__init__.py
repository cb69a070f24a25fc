"""Family ``onnx``: an ONNX file, without the code that made it."""
