"""Tests of harness/report/."""
