"""Tests of harness/data/."""
