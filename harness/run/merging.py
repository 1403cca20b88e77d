"""Merging of the shards of a run: the document and the verdict of the run in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.cards import DeviceCard, TwoStageCard
from harness.cards.expectations import Expectation
from harness.cards.tolerances import load_tolerance
from harness.checks.expectations import CONVERSION, entry_for, excused_conversion
from harness.checks.joining import join, until_first_problem
from harness.checks.outcome import StageResult, judge
from harness.checks.owed import GROUPS
from harness.data.dataset import Dataset, Instances
from harness.data.detections import Results
from harness.errors import HarnessError
from harness.report.part import About, Compared, Judged, PartFile
from harness.report.records import Diagnosis, Document, Executed, Message, Reported, Stored, Trouble
from harness.run.conclude import RunDocument
from harness.run.detected import Detected
from harness.run.scoring import Scoring
from harness.run.settle import settle

HEADS = "test_heads.py::test_device_heads_equal_reference"
"""Test that reports the diagnosis of a device."""
AGAIN = "run this shard again"


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """Options of a merging, beside what the parts say.

    Attributes:
        results: Place of the results document; None where none is asked for.
        report: Folder of the page for people.
        baseline: An earlier results document, to be no worse than.
        allow_other_weights: Whether that may be of another training.
    """

    results: Path | None = None
    report: Path | None = None
    baseline: Path | None = None
    allow_other_weights: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(MergeOptions):
    """Options of the run, as its parts and the user of the merging give them; no speed is merged."""

    about: About
    against: None = None
    max_slowdown: None = None
    workers: int = 0

    @property
    def model(self) -> str:
        return self.about.card.name

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.about.devices)

    @property
    def precision(self) -> str:
        return self.about.precision

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return self.about.batch_sizes

    def expectations_of(self, card: DeviceCard) -> tuple[Expectation, ...]:
        return next(one.expectations for one in self.about.devices if one.card.name == card.name)


class Merged:
    """A run in one piece, as its document and its gate need to know it.

    Args:
        parts: All parts of the run, in order.
        given: What the user asks for.
    """

    def __init__(self, parts: Sequence[PartFile], given: MergeOptions) -> None:
        self.parts = parts
        self.about = parts[0].about
        asked = (given.results, given.report, given.baseline, given.allow_other_weights)
        self.options = _Options(*asked, about=self.about)
        self.data, self.model_card, self.subject = self.about.data, self.about.card, self.about

    def device(self, name: str) -> Judged:
        """Return a device by the name that the user gave."""
        return next(one for one in self.about.devices if one.name == name)

    def check_devices(self) -> None:
        """Do nothing: the devices have run."""

    def check(self) -> None:
        """Do nothing: what the parts were given was there."""

    def close(self) -> None:
        """Do nothing: no device is open."""

    def environment(self) -> dict[str, str]:
        """Return machine and versions of the parts; where they differ, all of them."""
        return _united([part.about.environment for part in self.parts])

    @cached_property
    def dataset(self) -> Dataset:
        """The images of the run with their truth; their files are not there.

        Raises:
            HarnessError: The images of the parts are not those of the run.
        """
        truths = [part.about.instances for part in self.parts]
        images = tuple(image for one in truths for image in one.images)
        ids = [image.id for image in images]
        if len(set(ids)) != len(ids) or len(ids) != self.data.images or ids != sorted(ids):
            cause = f"the parts have {len(ids)} images, and the run {self.data.images}, each once"
            raise HarnessError(cause, file=self.parts[0].file, field="instances", remedy="run the shards again")
        annotations = tuple(entry for one in truths for entry in one.annotations)
        return Dataset(Path(), Instances(images, annotations, truths[0].categories))

    @cached_property
    def scoring(self) -> Scoring:
        """AP of detections on the images of the run."""
        given = (self.about.card, self.dataset, load_tolerance(self.about.precision))
        return Scoring(*given, lambda: self._golden, decided_by_ap=self.about.decided_by_ap)

    @cached_property
    def _golden(self) -> Detected:
        golden = next(one for one in self.about.found if one.is_golden)
        return self._detected(golden.device, golden.batch_size, is_golden=True)

    def _detected(self, name: str, batch_size: int, reading: str = "", *, is_golden: bool = False) -> Detected:
        """Return the detections of all images by one device.

        Raises:
            HarnessError: A part lacks some of them, or has others.
        """
        results, notes = Results(), list[Stored]()
        for part in self.parts:
            wanted = (name, batch_size, reading, is_golden)
            kept = [(one.device, one.batch_size, one.reading, one.is_golden) for one in part.about.found]
            own = part.results[kept.index(wanted)] if wanted in kept else Results()
            if list(own) != [image.id for image in part.about.instances.images]:
                cause = f"it lacks detections of {name} at batch size {batch_size} in some of its images"
                raise HarnessError(cause, file=part.file, field="found", remedy=AGAIN)
            for image_id, found in own.items():
                results.add(image_id, found)
            noted = part.about.found[kept.index(wanted)].stored
            notes += [] if noted is None else [noted]
        images, since = sum(one.images for one in notes), min((one.since for one in notes), default="")
        return Detected(results, stored=Stored(images=images, since=since) if notes else None)

    def stage(self, name: str, stage: str, batch_size: int) -> StageResult | None:
        """Put a stage of a device together; None where no part has it.

        Raises:
            HarnessError: Some parts have it, and others do not.
        """
        found = [_of(part.about, name, stage, batch_size) for part in self.parts]
        kept = [one for one in found if one is not None]
        if not kept:
            return None
        if len(kept) < len(found):
            cause = f"it lacks stage {stage} of {name} at batch size {batch_size}"
            raise HarnessError(cause, file=self.parts[found.index(None)].file, field="compared", remedy=AGAIN)
        return self._accuracy(name, batch_size, kept) if stage == "accuracy" else self._judged(kept)

    def _judged(self, kept: Sequence[Compared]) -> StageResult:
        first = kept[0]
        if all(one == first for one in kept) or {one.stage.outcome for one in kept} == {"not-applicable"}:
            return StageResult(first.stage, first.comparisons)
        joined = join([one.comparisons for one in kept])
        if isinstance(self.about.card, TwoStageCard):
            joined = until_first_problem(joined)
        return judge(first.stage.name, first.stage.batch_size, joined)

    def _accuracy(self, name: str, batch_size: int, kept: Sequence[Compared]) -> StageResult:
        failed = next((one for one in kept if one.stage.outcome == "failed"), None)
        if failed is not None:
            return judge("accuracy", batch_size, failed.comparisons)
        is_reference = (name, batch_size) in self.about.are_reference
        detected = self._golden if is_reference else self._detected(name, batch_size)
        readings = {one: self._detected(name, batch_size, one).results for one in kept[0].readings}
        return self.scoring.judge(batch_size, detected, readings, is_reference=is_reference)


def merge(parts: Sequence[PartFile], given: MergeOptions, say: Callable[[str], None]) -> Document:
    """Judge a run of which all shards have ended, and write its document.

    It is that of the run in one piece but for environment, times and speeds.

    Args:
        parts: From `harness.run.parts.read_parts`.
        given: What the user asks for.
        say: Called with the failures.

    Raises:
        HarnessError: The parts do not fit together, or the baseline cannot be read or is of something else.
    """
    merged = Merged(parts, given)
    document = RunDocument(merged, merged.environment)
    messages = list(_messages(merged, say))
    document.begin()
    document.owe({"accuracy"})
    return document.close(messages)


def _messages(merged: Merged, say: Callable[[str], None]) -> Iterator[Message]:
    told = set[tuple[str | None, str]]()
    for part in merged.parts:
        for trouble in part.about.troubles:
            if (trouble.device, trouble.text) not in told:
                told.add((trouble.device, trouble.text))
                yield trouble
    for judged in merged.about.devices:
        yield from _of_device(merged, judged, say)


def _of_device(merged: Merged, judged: Judged, say: Callable[[str], None]) -> Iterator[Message]:
    """Yield what a run in one piece reports of a device."""
    device, precision = judged.card.name, merged.about.precision
    runs = [run for part in merged.parts for run in part.about.runs if run.device == device]
    executed = _united([run.executed for run in runs])
    yield Executed(device=device, precision=precision, executed=executed)
    explained = tuple(answer for run in runs for answer in run.diagnosis)
    for size in merged.about.batch_sizes:
        for test, stage in GROUPS["accuracy"].items():
            entry = entry_for(judged.expectations, test, precision, size)
            result = merged.stage(judged.name, stage, size)
            if result is None:
                if entry is not None and entry.stage == CONVERSION:
                    refused = excused_conversion(size, entry)
                    yield Reported(device=device, precision=precision, test=test, record=refused)
                continue
            found = explained if test == HEADS else ()
            yield from _of_stage(device, precision, test, size, result, entry, found, say)


def _of_stage(
    device: str,
    precision: str,
    test: str,
    batch_size: int,
    result: StageResult,
    entry: Expectation | None,
    explained: Sequence[Diagnosis],
    say: Callable[[str], None],
) -> Iterator[Message]:
    settled = settle(result, entry, lambda: explained, device, precision)
    for record in (settled.stage, *result.further_records, *settled.diagnosis):
        yield Reported(device=device, precision=precision, test=test, record=record)
    if settled.against is not None:
        text = f"{test}[{device}-batch{batch_size}]: {settled.against}"
        say(text)
        yield Trouble(device=device, text=text, verdict="deviates")
    elif settled.text:
        say(settled.text)


def _of(about: About, name: str, stage: str, batch_size: int) -> Compared | None:
    place = (name, stage, batch_size)
    return next(
        (one for one in about.compared if (one.device, one.stage.name, one.stage.batch_size) == place),
        None,
    )


def _united(every: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the values of all by name; where they differ, each of them once."""
    names = dict.fromkeys(name for one in every for name in one)
    return {name: "; ".join(dict.fromkeys(one[name] for one in every if name in one)) for name in names}
