"""Tests of harness/export/."""
