"""Programs that end with this process, however it ends, and with all that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

LAUNCHER = Path(__file__).with_name("launcher.py")
Stream = int | IO[Any] | None


class Guarded:
    """A program in a session of its own; its whole process group is killed by `end`, or when this process dies.

    Another process waits for the end of a pipe that only this one holds: neither ``kill -9`` of this process nor an
    exception at any point leaves the program running.

    Args:
        command: Program and arguments; no shell sees them.
        folder: Its working folder.
        environment: All its environment variables.
        stdin: As for `subprocess.Popen`.
        stdout: As for `subprocess.Popen`.
        stderr: As for `subprocess.Popen`.

    Attributes:
        process: The running program.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> None:
        watched, self._pipe = os.pipe()
        refused, refuses = os.pipe()
        given = [str(watched), str(refuses), environment.get("LC_CTYPE", ""), *map(str, command)]
        try:
            with os.fdopen(refused, "rb") as answer:
                try:
                    self.process: subprocess.Popen[bytes] = subprocess.Popen(
                        [sys.executable, "-I", "-S", str(LAUNCHER), *given],
                        cwd=folder,
                        env=dict(environment),
                        stdin=stdin,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,
                        pass_fds=(watched, refuses),
                    )
                finally:
                    os.close(watched)
                    os.close(refuses)
                number = answer.read()
            if number:
                self.process.wait()
                raise OSError(int(number), os.strerror(int(number)), str(command[0]))
        except BaseException:
            self._close_pipe()
            raise

    def end(self) -> None:
        """Kill the program and all that it started, at once; more than once is allowed."""
        # The tools start other processes, which outlive a killed tool; all of them are in the tool's session.
        with suppress(ProcessLookupError):  # none is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self._close_pipe()
        # Timed: Ctrl-C within Popen can leave its lock taken, and a wait without limit would never end.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            pipe, self._pipe = self._pipe, -1
            os.close(pipe)
