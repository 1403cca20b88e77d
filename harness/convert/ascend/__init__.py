"""Ascend's toolchain: from an ONNX to an om, and what its tools say about machine, errors and speed."""
