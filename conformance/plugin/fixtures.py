"""Fixtures of the device tests, and their parameters."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.plugin.config import CONFIG
from conformance.plugin.entry import INSTALLED, PACKAGE, is_own
from conformance.plugin.recorder import Recorder, test_name
from harness.checks.owed import place_of
from harness.files import file_sha256
from harness.files.temporary import TemporaryFolder
from harness.run.options import CheckOptions
from harness.run.session import Session
from harness.run.store import Policy, Store
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
    """Judge the devices in the order in which they were given, each at its batch sizes in theirs, as `check` does.

    What is known in seconds comes before what needs all images.
    """
    options = config.stash[CONFIG]
    runs = [(name, size) for name in options.devices for size in options.batch_sizes]
    asked = {item: (parameters_of(item).get("device_name"), parameters_of(item).get("batch_size")) for item in items}
    judged = {item: runs.index(run) for item, run in asked.items() if run in runs}
    in_order = iter(sorted(judged, key=lambda item: (judged[item], place_of(test_name(item)))))
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

    if isinstance(options, TrainingOptions):
        return TrainingSession(options, shared, say)
    policy, asked = Policy(options.reuse, options.fresh), {"tests": _selected(config)}
    store = Store(policy, extra=lambda: _plugins_of_the_user(config), asked=asked)
    given = getattr(config, "workerinput", {}).get("run")
    if given is not None:
        store.run = given
    return Session(options, shared, say, store=store)


def _selected(config: pytest.Config) -> list[str]:
    """What selects the tests: a run of other tests goes on with none that was interrupted."""
    return [config.option.markexpr or "", config.option.keyword or "", *map(str, config.args)]


def _plugins_of_the_user(config: pytest.Config) -> dict[str, object]:
    """Hashes of the plug-ins that no installed package brings: they may change whatever this process computes."""
    named = [getattr(plugin, "__file__", None) for plugin in config.pluginmanager.get_plugins()]
    files = [Path(name) for name in named if name is not None and INSTALLED.isdisjoint(Path(name).parts)]
    users = sorted(file for file in files if not is_own(file) and file != PACKAGE.parent / "conftest.py")
    hashes = {file.name: file_sha256(file) for file in users if file.is_file()}
    return {"plugins": hashes} if hashes else {}


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
    session = make_session(node.config)
    node.workerinput["shared"] = str(session.shared)
    if isinstance(session, Session) and session.store is not None:
        node.workerinput["run"] = session.store.run


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

    def say(text: str) -> None:
        _say(request.config, text)

    return Recorder(request.node, device_name, request.config.stash[CONFIG].precision, batch_size, say)
