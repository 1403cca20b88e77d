"""Links to runners: one protocol in this process and in a child process.

A child is an execnet gateway. It gets source, arrays as bytes and plain data, and so could as well be on another host;
the only file system that it shares is that of the paths in a spec. Its answers are data and are never unpickled.
"""

from __future__ import annotations

import contextlib
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import execnet
from numpy.typing import NDArray

from harness.devices.interruption import Stoppable
from harness.devices.runners import serve
from harness.errors import DeviceEndedError, HarnessError

Array = NDArray[Any]
PATIENCE_S = 2.0
"""Seconds that a child has to end by itself before it is killed."""
REMEDY = "look at what it printed; a device answers with outputs or an error, and never ends or skips the run"


class Runner(Protocol):
    """A module of `harness.devices.runners`, or an object with the same functions."""

    def load(self, spec: dict[str, Any]) -> Any:  # noqa: ANN401 - each runner has a handle of its own
        """Load a model and return its handle, which has `facts`."""

    def run(self, handle: Any, images: Array) -> dict[str, Array]:  # noqa: ANN401
        """Run one batch and return the outputs by name."""

    def close(self, handle: Any) -> None:  # noqa: ANN401
        """Release the handle."""


class Link(Protocol):
    """One loaded model, wherever its runner is."""

    facts: Mapping[str, Any]
    """Plain data that the runtime states about the model."""

    def run(self, images: Array) -> dict[str, Array]:
        """Run one batch and return the outputs by name."""

    def time(self, images: Array, rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs, taken beside the runner."""

    def close(self) -> None:
        """Release the model; more than once is allowed."""


class ChildError(Exception):
    """An exception of the code in a child that is none of this project's own.

    Attributes:
        status: The exception's own `status`, such as an error code; None where it has none.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class UnansweredError(DeviceEndedError):
    """A child that was ended since it did not answer in time."""


class InProcess:
    """A runner in this process; arrays are handed through without a copy.

    Args:
        runner: The runner.
        spec: Its options; they may hold live objects.
    """

    def __init__(self, runner: Runner, spec: dict[str, Any]) -> None:
        self.runner = runner
        self.handle = runner.load(spec)
        self.facts: Mapping[str, Any] = self.handle.facts
        own: Any = getattr(runner, "interrupt", None)
        self._stop = partial(own, self.handle) if callable(own) else None

    def run(self, images: Array) -> dict[str, Array]:
        """Run one batch and return the outputs by name."""
        with self._stoppable():
            return self.runner.run(self.handle, images)

    def time(self, images: Array, rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs."""
        own: Any = getattr(self.runner, "time", None)
        with self._stoppable():
            if callable(own):
                return cast(list[float], own(self.handle, images, rounds))
            return serve.timed(lambda given: self.runner.run(self.handle, given), images, rounds)

    def _stoppable(self) -> AbstractContextManager[None]:
        """Let Ctrl-C stop the runtime where its runner can (`interrupt`)."""
        return nullcontext() if self._stop is None else Stoppable(self._stop)

    def close(self) -> None:
        """Release the model."""
        if self.handle is not None:
            handle, self.handle, self._stop = self.handle, None, None
            self.runner.close(handle)


class ChildProcess:
    """A process that answers one request after another, and ends with this one, with all that it has started.

    Args:
        what: Its name in messages, such as ``device 'x'``.
        first: The first message of `serve.begin`.

    Raises:
        HarnessError: The code in the child refuses, fails, or ends the process.
    """

    def __init__(self, what: str, first: Mapping[str, Any]) -> None:
        self.what = what
        self.ended: str | None = None
        self._lock = threading.Lock()
        self._group = execnet.Group()
        self._gateway = self._group.makegateway("popen")
        self._watch = _watch(cast(Any, self._gateway)._io.popen.pid)
        self._channel = self._gateway.remote_exec(inspect.getsource(serve))
        try:
            self._send(dict(first))
            self.told = self._receive("starting")
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *arguments: object, patience_s: float | None = None) -> Any:  # noqa: ANN401 - plain data
        """Call a method in the child.

        Args:
            method: Its name.
            arguments: Plain data and arrays.
            patience_s: Seconds to wait for the answer, after which the process is ended; None for ever.

        Raises:
            HarnessError: The method raised one, tried to end or skip the run, or the process has ended.
            DeviceOutputError: The method raised one.
            ChildError: The method raised any other exception; its traceback is noted.
        """
        with self._lock:
            if self.ended is not None:
                raise DeviceEndedError(self.ended, remedy=REMEDY)
            self._send((method, serve.pack(arguments)))
            try:
                return self._receive(method, patience_s)
            except self._channel.TimeoutError as error:
                self.end_at_once(f"{self.what} has not answered within {patience_s} s ({method})")
                raise UnansweredError(str(self.ended), remedy=REMEDY) from error
            except KeyboardInterrupt:
                self.end_at_once(f"{self.what} was interrupted ({method})")
                raise

    def close(self) -> None:
        """End the process."""
        if self.ended is None:
            self.ended = f"{self.what} is closed"
            self._end()

    def end_at_once(self, reason: str) -> None:
        """End the process in the middle of its work: its answer will not be waited for."""
        if self.ended is None:
            self.ended = reason
            self._gateway._io.kill()  # terminate would wait for the work
            self._end()

    def _end(self) -> None:
        try:
            self._group.terminate(PATIENCE_S)
        finally:
            self._watch.communicate()

    def _how_it_ended(self) -> str:
        """Tell the exit status, which execnet does not, or end what has closed its connection and goes on."""
        process: subprocess.Popen[bytes] = cast(Any, self._gateway)._io.popen
        try:
            return f"its process ended with {_status(process.wait(PATIENCE_S))}"
        except subprocess.TimeoutExpired:
            process.kill()
            return "its process closed its connection without ending, and was ended"

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # the process has ended: what is received says how
            self._channel.send(message)

    def _receive(self, doing: str, patience_s: float | None = None) -> Any:  # noqa: ANN401
        try:
            outcome, value = self._channel.receive(patience_s)
        except (EOFError, self._channel.RemoteError) as error:
            self.ended = f"{self.what}: {self._how_it_ended()} ({doing})"
            self._end()
            raise DeviceEndedError(self.ended, remedy=REMEDY) from error
        if outcome == "ok":
            return serve.unpack(value)
        raise _rebuilt(self.what, value)


class Child:
    """A runner in a child process.

    Args:
        what: Name of the device in messages.
        runner: Module of the runner; its source is sent.
        spec: Plain data.
    """

    def __init__(self, what: str, runner: Any, spec: Mapping[str, Any]) -> None:  # noqa: ANN401 - any such module
        source = runner.__name__, inspect.getsource(runner)
        self._process = ChildProcess(what, {"path": surroundings(), "runner": source, "function": None})
        try:
            self.facts: Mapping[str, Any] = self._process.ask("load", dict(spec))
        except BaseException:
            self._process.close()
            raise

    def run(self, images: Array) -> dict[str, Array]:
        """Run one batch and return the outputs by name."""
        outputs: dict[str, Array] = self._process.ask("run", images)
        return outputs

    def time(self, images: Array, rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs, taken in the child."""
        seconds: list[float] = self._process.ask("time", images, rounds)
        return seconds

    def close(self) -> None:
        """Release the model and end the process."""
        if self._process.ended is None:
            try:
                self._process.ask("close")
            finally:
                self._process.close()


def surroundings() -> list[object]:
    """Return the module path and the place of compiled modules, for a child on this host."""
    return [list(sys.path), sys.dont_write_bytecode, sys.pycache_prefix]


def _watch(child: int) -> subprocess.Popen[bytes]:
    """Start what kills the process group of a child when a pipe closes, by a call or by the end of this process.

    A child that is busy outside Python notices neither that this process is gone nor any signal but SIGKILL. Before it
    leads a group (`serve.begin`), it runs nothing but Python, and ends with its connection.
    """
    command = ["/bin/sh", "-c", 'read -r _; kill -KILL "-$1"', "watch", str(child)]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)


def _status(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"status {status}"


def _rebuilt(what: str, facts: Mapping[str, Any]) -> Exception:
    """Make the exception of this process that stands for one of the child."""
    from harness.centernet.heads import DeviceOutputError

    kinds, text, fields = facts["types"], str(facts["text"]), facts["fields"]
    error: Exception
    if "harness.errors.HarnessError" in kinds:
        file = fields["file"]
        error = HarnessError(
            str(fields["cause"]),
            file=None if file is None else Path(file),
            field=fields["field"],
            remedy=fields["remedy"],
        )
    elif "harness.centernet.heads.DeviceOutputError" in kinds:
        error = DeviceOutputError(*facts["arguments"])
    elif "builtins.Exception" not in kinds:
        error = DeviceEndedError(f"{what} raised {kinds[0]}: {text}", remedy=REMEDY)
    else:
        error = ChildError(f"{what}: {kinds[0].removeprefix('builtins.')}: {text}", fields["status"])
        error.add_note(f"In its process:\n{facts['traceback']}")
    return error


__all__ = [
    "Array", "Child", "ChildError", "ChildProcess", "InProcess", "Link", "Runner", "UnansweredError", "surroundings",
]  # fmt: skip
