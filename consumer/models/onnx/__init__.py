"""Family ``onnx``: a file that nobody need have the code of."""
