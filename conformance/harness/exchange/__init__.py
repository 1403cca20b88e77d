"""Tests of harness/exchange/."""
