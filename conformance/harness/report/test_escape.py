"""Text from elsewhere can neither steer a terminal nor begin a line."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.report.escape import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("images:0 /head/Conv_0 \u4e2d\u3000\u6587 \u00e9", None),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07 \x9b2J", "\\x1b]0;title\\x07 \\x9b2J"),
        ("a\nverdict: conforms\r\u2028\u2029\x0b\x85", "a\\nverdict: conforms\\r\\u2028\\u2029\\x0b\\x85"),
        ("\u202e\u2066\u200f\ufeff", "\\u202e\\u2066\\u200f\\ufeff"),
        ("\udcff", "\\udcff"),
    ],
)
def test_line_holds_nothing_that_steers_a_terminal(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)
    assert printable(printable(text)) == printable(text)
    printable(text).encode("utf-8")


def test_further_lines_do_not_begin_at_the_margin() -> None:
    text = "first\nverdict: conforms\n  | a tool's line\x1b\n"
    assert printable_lines(text) == "first\n  verdict: conforms\n  | a tool's line\\x1b\n"
    assert printable_lines(printable_lines(text)) == printable_lines(text)


def test_error_cannot_forge_a_line() -> None:
    forged = "x\nverdict: conforms"
    error = HarnessError(forged, file=forged, field=forged, remedy=forged)
    assert [line for line in str(error).split("\n") if not line.startswith(" ")] == [
        "x\\nverdict: conforms: x\\nverdict: conforms: x"
    ]
