"""Running a vendor's tool: its output in a log, a sign of life while minutes pass, nothing left running."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import HarnessError
from harness.paths import cache_path

logger = logging.getLogger(__name__)

SIGN_OF_LIFE = 10.0
"""Seconds between lines that say how long a tool has been at work."""
LAST_LINES = 12
UNSUPPORTED = re.compile(r"Op not support:\s*\{('.*?')\}")
"""How tpu_mlir names operators that it has no converter for."""
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run_tool(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    what: str,
    file: Path | None = None,
    limit_s: float | None = None,
) -> str:
    """Run a tool to its end in a folder of its own.

    Args:
        command: Program and arguments; no shell sees them.
        folder: Where it runs, and where its log is written.
        environment: All of its environment variables.
        what: What it does, for messages.
        file: The file that it works on, for messages.
        limit_s: Seconds after which it is killed with all that it has started; None for as long as it takes.

    Returns:
        What it printed.

    Raises:
        HarnessError: It cannot be started, takes longer than `limit_s`, or ends with a status other than 0; the
            message has the status, its last lines and the path of its whole log.
    """
    log = folder / f"{Path(command[0]).name}.log"
    started = time.monotonic()
    logger.info("%s", what)
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = _wait(process, what, started, limit_s)
    except OSError as error:
        raise HarnessError(f"{what}: cannot be started: {error.strerror}", file=command[0]) from error
    text = ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    if status is None:
        raise tool_failed(what, f"did not end within {limit_s:g} s, and was killed", log, file)
    if status != 0:
        raise tool_failed(what, f"ended with {_status(status)}", log, file)
    logger.info("%s: done in %.0f s", what, time.monotonic() - started)
    return text


def tool_failed(what: str, how: str, log: Path, file: Path | None = None) -> HarnessError:
    """The error of a tool that failed; its log is kept where the folder it ran in goes.

    Args:
        what: What the tool did.
        how: How it failed.
        log: What it printed.
        file: The file that it worked on.
    """
    text = ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    kept = cache_path() / "logs" / f"{log.stem}-{uuid.uuid4().hex[:8]}.log"
    remedy = f"the whole log is {kept}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
    except OSError as error:  # such as the full disk that the tool failed for
        remedy = f"no room for its log: {error.strerror}; set CENTERNET_CONFORMANCE_CACHE to a folder that can"
    operators = UNSUPPORTED.search(text)
    cause = f"{what}: {how}"
    if operators is not None:
        cause += f": the tool has no operator {operators[1]}"
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    shown = "".join(f"\n  | {line[:200]}" for line in lines)
    told = f"; its last lines:{shown}" if shown else "; it printed nothing"
    return HarnessError(cause + told, file=file, remedy=remedy)


def _wait(process: subprocess.Popen[bytes], what: str, started: float, limit_s: float | None) -> int | None:
    """The exit status; None where the process was still at work after `limit_s`."""
    said = started
    try:
        while True:
            try:
                return process.wait(0.2)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if limit_s is not None and now - started >= limit_s:
                    return None
                if now - said >= SIGN_OF_LIFE:
                    said = now
                    logger.info("%s: %.0f s", what, now - started)
    finally:
        # The tools start others, which outlive a tool that is killed; all of them are in the tool's session.
        with suppress(ProcessLookupError):  # none is left
            os.killpg(process.pid, signal.SIGKILL)
        # Timed, for Ctrl-C within Popen can leave its lock taken, and a wait without end would be one.
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def _status(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
