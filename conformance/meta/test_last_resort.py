"""An exception that nobody foresaw in the pytest layer ends with status 4, a line, a document and a file to send in."""

import re
from pathlib import Path

import pytest

from conformance.support.suite import CHECKS, Suite
from harness.report.defect import MARK

BREAK = """
import {module}

def broken(*given, **named):
    raise ZeroDivisionError("division by zero")

{module}.{name} = broken
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("conformance.plugin.session", "options_of"),
        ("conformance.plugin.session", "summary"),
        ("harness.run.stages", "check_heads"),
    ],
    ids=lambda name: name,
)
def test_what_nobody_foresaw_is_an_error(suite: Suite, module: str, name: str) -> None:
    plugin = suite.tiny.vendor / f"breaks_{name}.py"  # where the runs find modules
    plugin.write_text(BREAK.format(module=module, name=name))
    ended = suite.run("-p", plugin.stem, "--device=right", "--batch-sizes=1", CHECKS[2])
    assert (ended.status, ended.result.verdict) == (4, "error"), ended.output
    said = re.search(rf"ZeroDivisionError: division by zero .*\n *(E +)?remedy: {MARK} (\S+)", ended.output)
    assert said is not None, ended.output
    file = Path(said[2])
    assert "Traceback" in file.read_text()
    file.unlink()
    assert not any(word in ended.output for word in ("Traceback", "INTERNALERROR"))
