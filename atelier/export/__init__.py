"""Models for other programs: ONNX files, and one HTML page in which a generator runs in the browser."""
