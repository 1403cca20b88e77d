"""Strict, frozen records read from TOML, with errors that name file, field, cause and remedy."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError


class Record(BaseModel):
    """A table of a card: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


RecordT = TypeVar("RecordT", bound=Record)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        HarnessError: The file is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HarnessError("no such file", file=path, remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not valid TOML: {error}", file=path, remedy="correct the file") from error


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
                cause += f" (it is {first['input']!r})"
        more = error.error_count() - 1
        if more:
            cause += f"; and {more} more"
        raise HarnessError(cause, file=file, field=field, remedy=remedy or "correct the card") from error


def _near_miss(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    for part in loc[:-1]:
        if isinstance(part, str) and part in kind.model_fields:
            nested = _record_in(kind.model_fields[part].annotation)
            if nested is None:
                break
            kind = nested
    known = sorted(kind.model_fields)
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
