"""Text of files, cards, devices and tools made safe to print: it cannot steer a terminal or begin its own line."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Return `text` as one line in which everything that is not shown as a character stands escaped, as in ``\x1b``.

    Escaped are the control characters C0 and C1 (so every ANSI and OSC sequence), ends of lines, marks that turn the
    direction of writing, and surrogates, which no encoding has. Applied twice it changes nothing more.
    """
    return "".join(one if one.isprintable() or one == "\u3000" else repr(one)[1:-1] for one in str(text))


def printable_lines(text: object) -> str:
    """Return `text` with each line made `printable`; every line but the first is indented.

    A line at the margin is the suite's own: text from elsewhere cannot begin one, such as ``verdict: conforms``.
    """
    first, *others = str(text).split("\n")
    return "\n".join(
        [printable(first), *(line if line[:1] in ("", " ") else f"  {line}" for line in map(printable, others))]
    )
