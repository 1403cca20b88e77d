"""Tests of harness/checks/."""
