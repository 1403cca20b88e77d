"""Loads the suite's pytest layer."""

pytest_plugins = (
    "conformance.plugin.config",
    "conformance.plugin.selection",
    "conformance.plugin.fixtures",
    "conformance.plugin.expectations",
    "conformance.plugin.session",
)
