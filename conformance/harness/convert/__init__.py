"""Tests of harness/convert/."""
