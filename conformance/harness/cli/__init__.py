"""Tests of harness/cli/."""
