"""Tests of harness/emulation/."""
