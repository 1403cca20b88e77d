"""Strict, frozen records read from TOML, with errors that name file, field, cause and remedy."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError
from harness.files import read_text

TOML_BYTES = 2**20
"""Most that a card or a list of expectations may have."""
PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
RULE = "a name has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', and is not '.' or '..'"
LONGEST_SHOWN = 120
"""Characters of a wrong value that a message shows."""


class Record(BaseModel):
    """A table of a card: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FiniteRecord(Record):
    """A record whose numbers are neither NaN nor infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


def is_plain_name(text: str) -> bool:
    """Tell whether a text is a name that is neither a path, nor a word of a shell, nor an escape of a terminal."""
    return PLAIN.fullmatch(text) is not None and text not in (".", "..")


def _plain_name(text: str) -> str:
    if not is_plain_name(text):
        raise ValueError(RULE)
    return text


Name = Annotated[str, AfterValidator(_plain_name)]
"""Name of a card: it becomes part of file names, of commands and of what is printed."""

RecordT = TypeVar("RecordT", bound=Record)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        HarnessError: The file cannot be read, is too large, or is no TOML.
    """
    try:
        return tomllib.loads(read_text(path, None, TOML_BYTES))
    except HarnessError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise HarnessError("no such file", file=path, remedy="check the path") from error
        raise
    except RecursionError as error:
        raise HarnessError("not valid TOML: nested too deep", file=path, remedy="correct the file") from error
    except ValueError as error:  # besides TOML's own: a number of more digits than Python converts
        cause = f"not valid TOML: {str(error).partition(';')[0]}"
        raise HarnessError(cause, file=path, remedy="correct the file") from error


def parse(kind: type[RecordT], values: dict[str, Any], file: Path, table: str | None = None) -> RecordT:
    """Validate `values` as a `kind`.

    Args:
        kind: The record.
        values: By key.
        file: The file that they were read from, for messages.
        table: Name of the table within the file; None where `values` are the whole file.

    Raises:
        HarnessError: A value is wrong; the error names the first such field, and the nearest key if one is misspelt.
    """
    try:
        # By way of JSON, since strict validation takes arrays for tuples only there.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise _not_valid(kind, error, file, table) from error
    except RecursionError as error:
        raise HarnessError("nested too deep", file=file, field=table, remedy="correct the card") from error
    except ValueError as error:  # a number of more digits than Python writes
        cause = str(error).partition(";")[0]
        raise HarnessError(cause, file=file, field=table, remedy="correct the card") from error


def card_names(folder: Path) -> list[str]:
    """List the names of the cards in a folder of the suite."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load_named(kind: type[RecordT], name_or_path: str | Path, folder: Path, what: str, field: str) -> RecordT:
    """Load the card of this name, or at this path, see `named_path`.

    Args:
        kind: Of the card.
        name_or_path: A path ends in ``.toml``.
        folder: Of the cards that ship with the suite.
        what: Such a card, in messages.
        field: The option that names it.

    Raises:
        HarnessError: No such card, or one with an unknown key, a wrong type or an impossible value.
    """
    path = named_path(name_or_path, folder, what, field)
    return parse(kind, read_toml(path), path)


def named_path(name_or_path: str | Path, folder: Path, what: str, field: str) -> Path:
    """Return the place of the card of this name, or this path; arguments as in `load_named`.

    Raises:
        HarnessError: No card ships under this name.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = folder / f"{name_or_path}.toml"
        if not is_plain_name(str(name_or_path)) or not path.is_file():
            raise HarnessError(
                f"no {what} named '{name_or_path}'",
                field=field,
                remedy=f"use one of {', '.join(card_names(folder))}, or the path of a .toml file",
            )
    return path


def _not_valid(kind: type[BaseModel], error: ValidationError, file: Path, table: str | None) -> HarnessError:
    # A misspelt key makes a required one missing, too: the misspelling is the news.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in (*([table] if table else []), *first["loc"])) or None
    remedy = None
    if first["type"] == "extra_forbidden":
        cause = "unknown key"
        remedy = _near_miss(kind, first["loc"])
    else:
        cause = first["msg"].removeprefix("Value error, ")
        if first["type"] != "missing" and not isinstance(first["input"], dict):
            cause += f" (it is {_shown(first['input'])})"
    more = error.error_count() - 1
    if more:
        cause += f"; and {more} more"
    return HarnessError(cause, file=file, field=field, remedy=remedy or "correct the card")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _near_miss(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    for part in loc[:-1]:
        if isinstance(part, str) and part in kind.model_fields:
            nested = _record_in(kind.model_fields[part].annotation)
            if nested is None:
                break
            kind = nested
    known = sorted(field.alias or name for name, field in kind.model_fields.items())
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"


def _record_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - annotations are of any type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _record_in(argument)
        if found is not None:
            return found
    return None
