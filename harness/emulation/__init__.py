"""Arithmetic of chips that are not there, written into graphs that ONNX Runtime runs: what it gives is `emulated`."""
