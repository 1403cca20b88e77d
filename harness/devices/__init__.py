"""Devices: one file a runtime, found through entry points so that a vendor can keep one out of tree."""
