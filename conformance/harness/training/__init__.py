"""Tests of harness/training/."""
