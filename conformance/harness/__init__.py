"""Tests of the library; a folder here mirrors one of harness/."""
