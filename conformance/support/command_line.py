"""Execution of verbs of the command line in this process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import pytest

from harness.cli import main


def run(*arguments: object) -> tuple[int, str, str]:
    """Run ``python -m harness ARGUMENTS``; return exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    line = mock.patch.object(sys, "argv", ["harness", *map(str, arguments)])
    with line, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()
