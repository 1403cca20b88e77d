"""Emulation of the arithmetic of chips, written into graphs for ONNX Runtime; its results are labelled `emulated`."""
