"""Options of a check that a file holds, so that nobody types them: a TOML file, or a table of pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from harness.cards.schema import Record, parse, read_toml
from harness.devices.registry import device_names
from harness.errors import HarnessError
from harness.files import is_file

TABLE = "centernet-conformance"
"""Of ``[tool]`` in a pyproject.toml."""
PROJECT = "pyproject.toml"
PATHS = ("weights", "onnx", "coco", "outputs", "results", "report", "baseline", "expectations")
"""Options that are paths: from the folder of the file."""

OPPOSITES = {"reuse": "fresh", "fresh": "reuse"}
"""Of the options without a value: where one stands on the command line, the other one in a file does not count."""


def _as_written(name: str) -> str:
    return name.replace("_", "-")


class _Stated(Record):
    model_config = ConfigDict(alias_generator=_as_written)

    device: str | tuple[str, ...] | None = None
    model: str | None = None
    weights: str | None = None
    outputs: str | None = None
    precision: str | None = None
    results: str | None = None
    report: str | None = None
    baseline: str | None = None
    allow_other_weights: bool | None = None
    expectations: str | None = None


class TrainingStated(_Stated):
    """Options of the check of a training, by their names without dashes in front."""

    processes: int | None = None


class Stated(_Stated):
    """Options of a check, likewise; those of a training are a table of their own."""

    onnx: str | None = None
    coco: str | None = None
    limit: int | None = None
    batch_sizes: str | tuple[int, ...] | None = None
    calibration_images: int | None = None
    reuse: bool | None = None
    fresh: bool | None = None
    against: str | None = None
    max_slowdown: str | None = None
    training: TrainingStated | None = None


def stated_options(config: Path | None, *, training: bool = False) -> dict[str, Any]:
    """Return the options that a file states, as they would be on the command line, which wins over them.

    Args:
        config: A TOML file of options, or a pyproject.toml with the table ``[tool.centernet-conformance]``. By default
            the pyproject.toml of this folder or of the nearest above; one without the table states nothing.
        training: Whether those of the check of a training are wanted, the table ``training``.

    Raises:
        HarnessError: The file is missing or no TOML, or an option is unknown or of another type.
    """
    file = _nearest() if config is None else config
    if file is None:
        return {}
    values, table = read_toml(file), None
    if file.name == PROJECT:
        tools = values.get("tool")
        table = f"tool.{TABLE}"
        if not isinstance(tools, dict) or TABLE not in tools:
            if config is None:
                return {}
            raise HarnessError(
                "there is no such table", file=file, field=table, remedy="write it, or give another file"
            )
        values = tools[TABLE]
    stated = parse(Stated, values, file, table)
    chosen: _Stated | None = stated.training if training else stated
    found = {} if chosen is None else chosen.model_dump(exclude_none=True, exclude={"training"})
    return {name: _on_command_line(name, value, file) for name, value in found.items()}


def _nearest() -> Path | None:
    here = Path.cwd()
    return next((folder / PROJECT for folder in (here, *here.parents) if is_file(folder / PROJECT)), None)


def _on_command_line(name: str, value: object, file: Path) -> object:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    is_path = name in PATHS or (name == "model" and str(value).endswith(".toml"))
    is_path |= name == "against" and value not in device_names()
    return str(file.parent / str(value)) if is_path else value
