"""Conformance and benchmark harness for CenterNet ported to accelerators."""

import os

__version__ = "0.1.0"

# The threads of PyTorch's OpenMP spin while they wait for each other. Where anything else runs on the machine, two that
# spin are five times slower than one. Read when PyTorch is loaded, hence here, before any module of ours does that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
