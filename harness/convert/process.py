"""Execution of a vendor's tool: output to a log, progress lines, and no process left behind."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.convert.guarded import Guarded
from harness.errors import HarnessError
from harness.paths import cache_path

logger = logging.getLogger(__name__)

SIGN_OF_LIFE = 10.0
"""Seconds between the progress lines of a running tool."""
LAST_LINES = 12
UNSUPPORTED = re.compile(r"Op not support:\s*\{('.*?')\}")
"""The message of tpu_mlir for operators without a converter."""
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
        folder: Working folder of the tool, and folder of its log.
        environment: All environment variables of the tool.
        what: Description of the step, for messages.
        file: The file that the tool works on, for messages.
        limit_s: Seconds after which the tool is killed with all that it has started; None for no limit.

    Returns:
        The output of the tool.

    Raises:
        HarnessError: The tool cannot be started, takes longer than `limit_s`, or ends with a status other than 0. The
            message has the status, its last lines and the path of its whole log.
    """
    log = folder / f"{Path(command[0]).name}.log"
    started = time.monotonic()
    logger.info("%s", what)
    try:
        with log.open("wb") as output:
            guarded = Guarded(command, folder, environment, stdout=output, stderr=subprocess.STDOUT)
            status = _wait(guarded, what, started, limit_s)
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
    """Make the error of a tool that failed, and keep a copy of its log in the cache.

    Args:
        what: Description of the step.
        how: Description of the failure, such as "ended with status 1".
        log: File with the output of the tool.
        file: The file that the tool worked on.
    """
    text = ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    kept = cache_path() / "logs" / f"{log.stem}-{uuid.uuid4().hex[:8]}.log"
    remedy = f"the whole log is {kept}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
    except OSError as error:  # such as a full disk, of which the tool may have failed
        remedy = f"no room for its log: {error.strerror}; set CENTERNET_CONFORMANCE_CACHE to a folder that can"
    operators = UNSUPPORTED.search(text)
    cause = f"{what}: {how}"
    if operators is not None:
        cause += f": the tool has no operator {operators[1]}"
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    shown = "".join(f"\n  | {line[:200]}" for line in lines)
    told = f"; its last lines:{shown}" if shown else "; it printed nothing"
    return HarnessError(cause + told, file=file, remedy=remedy)


def _wait(guarded: Guarded, what: str, started: float, limit_s: float | None) -> int | None:
    """Wait for the exit status; None if the process was still running after `limit_s`. End all that it started."""
    said = started
    try:
        while True:
            try:
                return guarded.process.wait(0.2)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if limit_s is not None and now - started >= limit_s:
                    return None
                if now - said >= SIGN_OF_LIFE:
                    said = now
                    logger.info("%s: %.0f s", what, now - started)
    finally:
        guarded.end()


def _status(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
