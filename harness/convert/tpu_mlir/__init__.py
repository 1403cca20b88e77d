"""Sophon's tpu_mlir: compiler and bit-accurate simulators of its chips."""
