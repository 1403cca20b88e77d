"""Tests of harness/centernet/."""
