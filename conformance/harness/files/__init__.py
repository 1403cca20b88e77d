"""Tests of harness/files/."""
