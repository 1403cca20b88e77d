"""Tests of harness/divergence/."""
