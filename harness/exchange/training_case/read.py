"""Reads what a training step elsewhere has dumped, and refuses what cannot be judged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from harness.cards.schema import FiniteRecord
from harness.errors import HarnessError
from harness.exchange.npz import read_npz
from harness.files import entries, is_folder

DUMP_BYTES = 2**32
"""Most that the arrays of an iteration may have: gradients and parameters of R50 have 0.6 GB."""
DUPLICATED = "duplicated_heads"
"""Folder of heads that predict one box from several levels, which proposals alone are made of."""
IDLE = "idle"
"""Folder of a step of the optimizer without gradients."""
NAME = re.compile(r"iteration(\d{1,4})\.npz")
KINDS = ("loss", "gradient", "parameter", "features", "logits", "sides", "proposals")
"""What an array can be of: the word before the first slash of its name."""
REMEDY = "write it with the dump.py of the training case"


class About(FiniteRecord):
    """What a dump says of itself."""

    precision: Literal["fp32", "fp16", "bf16"]
    loss_scale: float = Field(gt=0)
    processes: int = Field(ge=1, le=2**16)
    iteration: int = Field(ge=0, le=10**4)
    torch: str


@dataclass(frozen=True)
class Dumped:
    """Arrays of one iteration on one batch.

    Attributes:
        file: Where they were.
        about: Precision and iteration.
        arrays: By kind, then by name or number.
    """

    file: Path
    about: About
    arrays: Mapping[str, dict[str, Tensor]] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Tensor]:
        """Return the arrays of a kind by name; none where the dump has none."""
        return self.arrays.get(kind, {})

    def listed(self, kind: str) -> list[Tensor] | None:
        """Return the arrays of a kind in the order of their numbers; None where there are none."""
        found = self.of(kind)
        return [found[str(number)] for number in range(len(found))] if found else None


def read_dumps(folder: Path, cases: tuple[str, ...]) -> dict[str, list[Dumped]]:
    """Read the dumps of each batch, in the order of their iterations.

    Args:
        folder: With a folder a batch.
        cases: Names of the batches that there can be.

    Raises:
        HarnessError: The folder is missing or holds no dump, a dump is damaged, or what it holds cannot be judged.
    """
    if not is_folder(folder):
        raise HarnessError("no such folder", file=folder, field="--outputs", remedy="give the folder of the answers")
    odd = sorted(path.name for path in entries(folder) if is_folder(path) and path.name not in cases)
    if odd:
        raise HarnessError(
            f"no batch is named {', '.join(odd)}",
            file=folder,
            field="--outputs",
            remedy=f"name each folder of answers after its batch: {', '.join(cases)}",
        )
    found = {name: _of_case(folder / name) for name in cases if is_folder(folder / name)}
    found = {name: dumps for name, dumps in found.items() if dumps}
    if not found:
        raise HarnessError(
            "the folder holds no answer: no CASE/iteration0.npz", file=folder, field="--outputs", remedy=REMEDY
        )
    return found


def _of_case(folder: Path) -> list[Dumped]:
    numbered = sorted((int(match[1]), path) for path in entries(folder) if (match := NAME.fullmatch(path.name)))
    for place, (number, path) in enumerate(numbered):
        if number != place:
            raise HarnessError(
                f"iteration {place} is missing: the answers of a batch begin at 0 and leave none out",
                file=path,
                remedy="run the batch again from the weights of the case",
            )
    return [_read(path, number) for number, path in numbered]


def _read(path: Path, number: int) -> Dumped:
    arrays = read_npz(path, DUMP_BYTES, remedy=REMEDY)
    about = _about(path, arrays.pop("about", None))
    if about.iteration != number:
        raise HarnessError(
            f"it is of iteration {about.iteration}",
            file=path,
            field="about.iteration",
            remedy="rename it, or run again",
        )
    kinds: dict[str, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition("/")
        if kind not in KINDS or not rest:
            known = ", ".join(f"{one}/..." for one in KINDS)
            raise HarnessError("nothing is known by this name", file=path, field=name, remedy=f"name arrays {known}")
        if array.dtype.name != "float32":
            raise HarnessError(
                f"it is {array.dtype}, in which what is small is lost or not comparable",
                file=path,
                field=name,
                remedy="save it with .float(), as dump.py does",
            )
        kinds.setdefault(kind, {})[rest] = torch.from_numpy(array)
    for kind in ("features", "logits", "sides", "proposals"):
        _require_numbers(path, kind, kinds.get(kind, {}))
    return Dumped(path, about, kinds)


def _about(path: Path, stored: Any) -> About:  # noqa: ANN401 - an array of text, if anything
    try:
        return About.model_validate(json.loads(str(stored.item())))
    except (ValidationError, ValueError, AttributeError) as error:
        said = str(error).splitlines()[0]
        raise HarnessError(f"it does not say what it is of: {said}", file=path, field="about", remedy=REMEDY) from error


def _require_numbers(path: Path, kind: str, found: Mapping[str, Tensor]) -> None:
    wanted = {str(number) for number in range(len(found))}
    if found.keys() != wanted:
        odd = ", ".join(sorted(found.keys() ^ wanted)[:4])
        raise HarnessError(
            f"levels or images must be numbered from 0 on; at fault: {odd}", file=path, field=kind, remedy=REMEDY
        )
