"""The exception for errors of the user: cause, file, field and remedy."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness.report.escape import printable, printable_lines

LONGEST = 4000
"""Characters of a cause."""


class HarnessError(Exception):
    """Error of something that the user gave (file, card, option, tool) and that is missing or wrong.

    The suite ends with exit status 4 on it, where a port that deviates ends with 1.

    Args:
        cause: The error in one sentence.
        file: The file that is at fault, if any.
        field: The field, entry or option within that file.
        remedy: Advice how to correct it.
    """

    def __init__(
        self, cause: str, *, file: str | Path | None = None, field: str | None = None, remedy: str | None = None
    ) -> None:
        self.cause = cause
        self.file = None if file is None else str(file)
        self.field = field
        self.remedy = remedy
        super().__init__(self.message())

    def __reduce__(self) -> tuple[object, ...]:
        # pytest-xdist and process pools carry exceptions across processes; keyword arguments need help.
        return (_rebuild, (type(self), self.cause, self.file, self.field, self.remedy))

    def message(self) -> str:
        """Return the whole message: file, field, cause, remedy; what files and tools bring into it is escaped."""
        where = ": ".join(printable(part) for part in (self.file, self.field) if part)
        cause = printable_lines(_short(self.cause))
        text = f"{where}: {cause}" if where else cause
        return f"{text}\n  remedy: {printable_lines(self.remedy)}" if self.remedy else text


class DeviceEndedError(HarnessError):
    """A device ended its process, or tried to end or skip the run, in the middle of its work: its stage did not run."""


def not_valid(what: str, error: ValidationError, *, file: Path, remedy: str) -> HarnessError:
    """Make an error from a failed validation of a JSON file, with the first problem that was found.

    Args:
        what: The kind of file that was expected, such as "a speed log".
        error: The error of the validation.
        file: The file.
        remedy: Advice how to correct it.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    return HarnessError(f"not {what}: {first['msg']}", file=file, field=field, remedy=remedy)


def _short(text: str) -> str:
    """Leave out the middle of a text that is too long to be read, such as one that quotes a file of one line."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} ... ({len(text) - LONGEST} characters) ... {text[-LONGEST // 2 :]}"


def _rebuild(
    kind: type[HarnessError], cause: str, file: str | None, field: str | None, remedy: str | None
) -> HarnessError:
    return kind(cause, file=file, field=field, remedy=remedy)
