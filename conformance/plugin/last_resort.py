"""Last resort of the suite in pytest: what nobody foresaw is an error of one line, exit status 4 and a file to send in.

Exceptions in the suite's hooks would end pytest with a traceback. Those in a test that judges a device would be read as
a failure of that device; a device of another distribution may raise anything, and is left to the session.
"""

import os
import re
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

from conformance.plugin.config import model_of
from conformance.plugin.entry import PACKAGE, is_own
from conformance.plugin.fixtures import parameters_of
from conformance.plugin.recorder import StageFailure
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.errors import HarnessError
from harness.paths import ROOT
from harness.report.defect import defect, is_of_device
from harness.run.conclude import refuse

OF_DEVICES = (HarnessError, StageFailure, DeviceOutputError, NonFiniteHeadError, pytest.exit.Exception)
"""Exceptions with which a test says what a device does, or what was given, or somebody ends the run."""
OF_TESTS = ("pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown", "pytest_pyfunc_call")
"""Hooks that run a test or a fixture, whose exceptions pytest reports."""
OWN = (PACKAGE / "plugin", ROOT / "harness")
OF_WORKER = re.compile(r"(?:Defect|HarnessError): (.*\n\s+remedy: .*)")
PLUGGY = Path(pluggy.__file__).parent


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Look at what comes out of every hook from now on."""
    del parser
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)

    def nothing(name: str, implementations: Sequence[object], arguments: Mapping[str, object]) -> None:
        del name, implementations, arguments

    def after(
        outcome: pluggy.Result[Any], name: str, implementations: Sequence[object], arguments: Mapping[str, object]
    ) -> None:
        del implementations, arguments
        error = _unforeseen(outcome.exception, name)
        if error is not None:
            outcome.force_exception(_told(config, error, name))

    pluginmanager.add_hookcall_monitoring(nothing, after)


def _unforeseen(error: BaseException | None, name: str) -> Exception | None:
    """The exception of a hook of the suite, and of no other, that pytest does not understand."""
    if name.startswith(("pytest_fixture", *OF_TESTS)) or isinstance(
        error, pytest.UsageError | pytest.Collector.CollectError | pytest.exit.Exception
    ):
        return None
    while isinstance(error, Exception):
        if _is_ours(error):
            return error
        error = error.__cause__ or error.__context__  # pluggy warns of an exception, and the warning is an exception
    return None


def _is_ours(error: BaseException) -> bool:
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    places = [place for place, file in enumerate(frames) if any(file.is_relative_to(folder) for folder in OWN)]
    # Of a hook that others raised in, a wrapper of ours is only where it passed through.
    return bool(places) and frames[places[-1]] != Path(__file__) and not _in_pluggy(frames[places[-1] + 1 :])


def _in_pluggy(frames: Sequence[Path]) -> bool:
    return any(file.is_relative_to(PLUGGY) for file in frames)


def _told(config: pytest.Config, error: BaseException, name: str) -> Exception:
    """Make the error that pytest shows without a traceback, and write the document."""
    found = error if isinstance(error, HarnessError) else defect(error, _command(config))
    if in_worker():
        return found
    if name == "pytest_generate_tests":  # pytest goes on, and the session writes the document
        return pytest.Collector.CollectError(str(found))
    results = getattr(config.option, "results", None)
    if results is not None and not config.option.collectonly:
        model = model_of(config)
        found = refuse(model, found, Path(results))
    return pytest.UsageError(str(found))


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Tell what a process of pytest-xdist could not go on for, where its hooks say so to this one.

    Raises:
        UsageError: It is an error of the suite; pytest-xdist hands over its text with the traceback.
    """
    told = OF_WORKER.search(str(excinfo.value))
    if told is not None and not in_worker():
        raise pytest.UsageError(told[1])


def in_worker() -> bool:
    """Tell whether this is a process of pytest-xdist."""
    return "PYTEST_XDIST_WORKER" in os.environ


def _command(config: pytest.Config) -> list[str]:
    return ["pytest", *map(str, config.invocation_params.args)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Turn what nobody foresaw in the fixtures of a test of a device into an error of the suite."""
    yield from _guarded(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Turn what nobody foresaw in a test of a device into an error of the suite."""
    yield from _guarded(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Turn what nobody foresaw at the end of a test of a device into an error of the suite."""
    yield from _guarded(item)


def _guarded(item: pytest.Item) -> Generator[None]:
    try:
        return (yield)
    except OF_DEVICES:
        raise
    except Exception as error:
        judges = is_own(item.path) and "device_name" in parameters_of(item)
        if not judges or is_of_device(error):
            raise
        raise defect(error, _command(item.config)) from error
