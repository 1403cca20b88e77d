"""Builders of small models and data, independent references, and stand-ins for vendors' tools."""
