"""Tests of `harness.faults`; `conformance/catalogue` measures what it catches and names."""
