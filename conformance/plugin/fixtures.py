"""Fixtures of the device tests, and their parameters."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.plugin.config import CONFIG
from conformance.plugin.entry import is_own
from conformance.plugin.recorder import Recorder
from harness.files.temporary import TemporaryFolder
from harness.run.options import CheckOptions
from harness.run.session import Session
from harness.run.training.options import TrainingOptions
from harness.run.training.session import TrainingSession

SESSION = pytest.StashKey[Session | TrainingSession]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of the suite for each device and batch size that were asked for."""
    if not is_own(metafunc.definition.path):
        return
    config = metafunc.config.stash[CONFIG]
    if "device_name" in metafunc.fixturenames:
        metafunc.parametrize("device_name", config.devices, scope="session")
    if "batch_size" in metafunc.fixturenames:
        metafunc.parametrize("batch_size", config.batch_sizes, ids=lambda size: f"batch{size}", scope="session")


def parameters_of(item: pytest.Item) -> dict[str, Any]:
    """Parameters of a test of the suite, among them `device_name` and `batch_size` of one that judges a device."""
    return item.callspec.params if hasattr(item, "callspec") and is_own(item.path) else {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Judge the devices in the order in which they were given, each at its batch sizes in theirs, as `check` does."""
    options = config.stash[CONFIG]
    runs = [(name, size) for name in options.devices for size in options.batch_sizes]
    asked = {item: (parameters_of(item).get("device_name"), parameters_of(item).get("batch_size")) for item in items}
    judged = {item: runs.index(run) for item, run in asked.items() if run in runs}
    in_order = iter(sorted(judged, key=lambda item: judged[item]))
    items[:] = [next(in_order) if item in judged else item for item in items]


def make_session(config: pytest.Config) -> Session | TrainingSession:
    """The session of this process, made on the first call: of devices that train, or of devices that infer."""
    if SESSION not in config.stash:
        config.stash[SESSION] = _new_session(config, config.stash[CONFIG], _shared(config))
        config.add_cleanup(config.stash[SESSION].close)
    return config.stash[SESSION]


def _new_session(
    config: pytest.Config, options: CheckOptions | TrainingOptions, shared: Path
) -> Session | TrainingSession:
    def say(text: str) -> None:
        _say(config, text)

    return (
        TrainingSession(options, shared, say) if isinstance(options, TrainingOptions) else Session(options, shared, say)
    )


def _shared(config: pytest.Config) -> Path:
    """The folder that the processes of this run share, removed at its end."""
    given = getattr(config, "workerinput", {}).get("shared")
    if given is not None:
        return Path(given)
    folder = TemporaryFolder()
    config.add_cleanup(folder.cleanup)
    return Path(folder.name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
    """Tell a process of pytest-xdist, before it starts, where the shared folder is."""
    node.workerinput["shared"] = str(make_session(node.config).shared)


def pytest_configure(config: pytest.Config) -> None:
    """Show how the toolchains get on, and what the cache waits for."""
    logger, handler = logging.getLogger("harness"), SignsOfLife(config)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    config.add_cleanup(lambda: logger.removeHandler(handler))


class SignsOfLife(logging.Handler):
    """Shows what the drivers of the toolchains say while they are at work."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(logging.INFO)
        self.config = config

    def emit(self, record: logging.LogRecord) -> None:
        """Show one of them; logging calls this."""
        _say(self.config, record.getMessage())


def _say(config: pytest.Config, text: str) -> None:
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    with capture.global_and_fixture_disabled():
        print(f"\n{text}", end="", file=sys.stderr, flush=True)


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """Model, data and devices of this run."""
    found = make_session(pytestconfig)
    assert isinstance(found, Session)
    return found


@pytest.fixture(scope="session")
def training(pytestconfig: pytest.Config) -> TrainingSession:
    """Model, batches and training devices of this run."""
    found = make_session(pytestconfig)
    assert isinstance(found, TrainingSession)
    return found


@pytest.fixture
def recorder(request: pytest.FixtureRequest, device_name: str, batch_size: int) -> Recorder:
    """Reports what a device test finds."""
    return Recorder(request.node, device_name, request.config.stash[CONFIG].precision, batch_size)
