"""Companion of the document of a shard: what merging needs of it, in one ``.npz`` beside the document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError, model_validator

from harness.cards import AnyCard, DeviceCard, ModelCard, TwoStageCard
from harness.cards.expectations import Expectation
from harness.cards.schema import Record
from harness.checks.comparison import Comparison
from harness.data.dataset import Instances, check_instances
from harness.data.detections import Results, results_from, to_arrays
from harness.errors import HarnessError, not_valid
from harness.exchange.npz import read_npz
from harness.files import file_sha256, is_file, whole_file
from harness.report.records import Data, Document, Run, Stage, Stored, Trouble

ABOUT = "about"
MOST_BYTES = 2**34
"""Most that a part may have: 5,000 images of ten devices at four batch sizes have some gigabytes."""
REMEDY = "keep it beside its document as the run wrote it, or run this shard again"


class Compared(Record):
    """Outcome of a stage of one device, by the name that the user gave, in one part, with all that was compared."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    device: str
    stage: Stage
    comparisons: tuple[Comparison, ...]
    readings: tuple[str, ...] = ()
    """Other readings of what is not known about the device, by which it was run as well."""


class Judged(Record):
    """A device of the run.

    Its expectations are those that are in force for it.
    """

    name: str
    """As the user gave it."""
    card: DeviceCard
    expectations: tuple[Expectation, ...]


class Found(Record):
    """Detections of one device in the images of the part, whose arrays have the place of this record as their name."""

    device: str
    """Name as the user gave it."""
    batch_size: int
    reading: str = ""
    """Of what is not known about the device, see `Findings.readings`."""
    is_golden: bool = False
    """Whether they are those of the reference."""
    stored: Stored | None = None


class About(Record):
    """All of a part but its detections."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    index: int
    of: int
    run: dict[str, str]
    """What the shards of one run have in common, by the name under which a message knows it."""
    one_stage: ModelCard | None
    two_stage: TwoStageCard | None
    devices: tuple[Judged, ...]
    precision: str
    batch_sizes: tuple[int, ...]
    data: Data
    weights_sha256: str | None
    onnx_sha256: str | None
    decided_by_ap: bool
    are_reference: tuple[tuple[str, int], ...]
    """Names of devices and batch sizes that are what gives the golden heads."""
    runs: tuple[Run, ...]
    """Of the part, with what the devices ran and the mistakes that explain deviations."""
    environment: dict[str, str]
    instances: Instances
    """Truth of the images of the part."""
    compared: tuple[Compared, ...]
    found: tuple[Found, ...]
    troubles: tuple[Trouble, ...]

    @model_validator(mode="after")
    def _consistent(self) -> About:
        golden = [one for one in self.found if one.is_golden]
        names = [one.name for one in self.devices]
        if (self.one_stage is None) == (self.two_stage is None):
            raise ValueError("it has the card of one model")
        if not 1 <= self.index <= self.of or len(golden) != 1:
            raise ValueError("it is one of several parts, with one reference")
        if not names or len(set(names)) != len(names) or not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ValueError("it has devices of different names, and batch sizes from 1 on")
        return self

    @property
    def card(self) -> AnyCard:
        """The contract of the model."""
        card = self.one_stage or self.two_stage
        assert card is not None
        return card


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part as its file has it.

    Attributes:
        about: All but the detections.
        results: Detections by the place of their record in `About.found`.
        file: Its place.
    """

    about: About
    results: tuple[Results, ...]
    file: Path


def part_path(document: Path) -> Path:
    """Return the place of the companion of a document: ``NAME.part.npz`` beside ``NAME.json``."""
    return document.with_name(f"{document.stem}.part.npz")


def write_part(part: PartFile) -> str:
    """Write a part, whole or not at all, and return its SHA-256.

    Raises:
        HarnessError: It cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {ABOUT: np.frombuffer(part.about.model_dump_json().encode(), np.uint8)}
    for place, results in enumerate(part.results):
        arrays |= {f"{place} {name}": array for name, array in to_arrays(results).items()}
    with whole_file(part.file) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file_sha256(part.file)


def read_part(document: Document, path: Path) -> PartFile:
    """Read the companion of the document of a shard.

    Args:
        document: Of the shard.
        path: Of the document.

    Raises:
        HarnessError: The document is of no shard, or its companion is missing, damaged or another.
    """
    if document.part is None:
        ended = document.verdict not in ("error", "incomplete")
        cause = "a document of a whole run" if ended else f"a run that is '{document.verdict}', and has no part"
        remedy = "give the documents of --shard 1/N to N/N" if ended else "run this shard again, to its end"
        raise HarnessError(cause, file=path, field="part", remedy=remedy)
    file = path.with_name(document.part.file)
    if not is_file(file):
        raise HarnessError(f"{path.name} speaks of this part, and it is not there", file=file, remedy=REMEDY)
    if file_sha256(file) != document.part.sha256:
        cause = f"not the part that {path.name} speaks of: it was cut or changed, or is of another run"
        raise HarnessError(cause, file=file, field="sha256", remedy=REMEDY)
    found = parse_part(file)
    if document.part.shard != f"{found.about.index}/{found.about.of}":
        cause = f"it says shard {document.part.shard}, and its part {found.about.index}/{found.about.of}"
        raise HarnessError(cause, file=path, field="part.shard", remedy=REMEDY)
    return found


def parse_part(file: Path) -> PartFile:
    """Read a file that `write_part` wrote.

    Raises:
        HarnessError: It is damaged.
    """
    arrays = read_npz(file, MOST_BYTES, remedy=REMEDY)
    try:
        about = About.model_validate_json(arrays[ABOUT].tobytes())
        results = tuple(
            results_from({name: arrays[f"{place} {name}"] for name in ("ids", "counts", "boxes", "scores", "classes")})
            for place in range(len(about.found))
        )
    except ValidationError as error:
        raise not_valid("a part of a run", error, file=file, remedy=REMEDY) from error
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise HarnessError(f"not a part of a run: {error}", file=file, remedy=REMEDY) from error
    check_instances(file, about.instances)
    classes = len(about.card.category_ids)
    if any(((found.classes < 0) | (found.classes >= classes)).any() for one in results for found in one.values()):
        raise HarnessError(f"a class beyond the {classes} of the model", file=file, field="classes", remedy=REMEDY)
    return PartFile(about, results, file)
