"""Says what is missing where the suite's plug-in for pytest is not loaded."""

import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Check that pytest has found the plug-in.

    Raises:
        UsageError: It has not.
    """
    if not pluginmanager.hasplugin("centernet_conformance"):
        raise pytest.UsageError(
            "pytest has not loaded the plug-in centernet_conformance of this project\n"
            "  remedy: pip install --editable . in this environment, and leave PYTEST_DISABLE_PLUGIN_AUTOLOAD unset"
        )
