"""Tests of harness/centernet2/."""
