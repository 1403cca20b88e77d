"""Records that checks report as they run, and the results document that is made of them (schema 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter

from harness.cards.device import Execution
from harness.cards.schema import Record

ESTIMATED = "estimated"
"""First word of the interval of a speed that a compiler estimates and nobody measured."""
HOST_ARRAYS = "device: host arrays in, host arrays out"
"""First words of the interval of a speed that the suite measures on a device."""
AGAINST = "against"
"""Stage that holds the time of a model to that of an older one."""

Outcome = Literal["passed", "failed", "undecided", "expected-failure", "not-applicable"]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Verdict = Literal["conforms", "deviates", "undecided", "incomplete", "measured", "part", "error"]


class Stage(Record):
    """One stage of one device at one batch size: what was compared and how it came out."""

    name: str
    batch_size: int | None
    outcome: Outcome
    measured: float | None
    """Largest difference; None where it is not finite or nothing was measured."""
    allowed: float | None
    comparisons: int
    detail: str | None = None
    """The first deviation, the open question, or the reason why the stage does not apply or was expected to fail."""
    margin: float | None = None
    """Measured / allowed of the comparison that comes closest to its limit; None where there is no limit but 0."""


class Interval(Record):
    """Interval of the loss of AP on other images of the same kind, see `harness.checks.bootstrap`."""

    low: float
    high: float
    confidence: float
    decides: bool
    """Whether the images of the run are enough to tell a loss that is allowed from one that is not."""
    images_to_decide: int | None
    """About how many images would be; None where no number is."""


class Stored(Record):
    """Images whose outputs an earlier run computed, under the same conditions."""

    images: int
    since: str
    """Date and time (ISO 8601) of the oldest."""


class ClassAP(Record):
    """AP of one class beside the reference's; rounded, as what it is part of is."""

    name: str
    objects: int
    """Annotated in the images of the run, crowds left out."""
    AP: Fraction
    reference_AP: Fraction


class Curve(Record):
    """Precision at the recalls 0, 0.01 ... 1, mean over the classes that have objects."""

    at_50: tuple[Fraction, ...]
    """At IoU 0.50."""
    mean: tuple[Fraction, ...]
    """Mean over the IoU thresholds 0.50, 0.55 ... 0.95."""


class Breakdown(Record):
    """Parts of an AP, to be looked at and not judged: rounded to four decimals, curves to three."""

    classes: tuple[ClassAP, ...]
    """Those that have objects; the one that lost most against the reference first."""
    reference_sizes: tuple[Fraction | None, Fraction | None, Fraction | None]
    """AP of the reference for small, medium and large objects, beside `Accuracy.APs`, `APm` and `APl`."""
    curve: Curve
    reference_curve: Curve


class Accuracy(Record):
    """AP of one device at one batch size, as fractions, beside the reference's on the same images in the same run."""

    batch_size: int | None
    """None where files of a port do not tell."""
    AP: Fraction
    AP50: Fraction
    AP75: Fraction
    APs: Fraction | None
    APm: Fraction | None
    APl: Fraction | None
    images: int
    reference_AP: Fraction
    allowed_loss: Fraction
    floor: str
    """Outcome of the published floor, or the reason why it does not apply."""
    rounded: bool = False
    loss_interval: Interval | None = None
    """Of the loss against the reference; None where the run is the reference."""
    readings: dict[str, Fraction] = Field(default_factory=dict)
    """AP by other readings of what is not known about the device, by reading; the verdict is by `AP`."""
    stored: Stored | None = None
    """Images of which the device's detections were taken from the store; None where all were computed in this run."""
    reference_stored: Stored | None = None
    """The same of the reference's."""
    breakdown: Breakdown | None = None
    """None in documents before 2026-12."""

    @property
    def band(self) -> tuple[float, float]:
        """Lowest and highest AP of all readings."""
        every = (self.AP, *self.readings.values())
        return min(every), max(every)


class Latency(Record):
    """Milliseconds a batch."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Latency:
        """Percentiles of the milliseconds of several batches."""
        p50, p90, p99 = (float(value) for value in np.percentile(samples_ms, (50, 90, 99)))
        return cls(p50=p50, p90=p90, p99=p99)


COURSE = 256
"""Most batches whose times a document holds."""


def course_of(samples_ms: Sequence[float]) -> tuple[float, ...]:
    """Return the times of a run as its document holds them: in order, and evenly spaced where there are too many.

    Args:
        samples_ms: Milliseconds of each batch; the result has them to the microsecond.
    """
    places = np.linspace(0, len(samples_ms) - 1, min(COURSE, len(samples_ms))).round().astype(int)
    return tuple(round(samples_ms[place], 3) for place in places)


class Perf(Record):
    """Speed of one device at one batch size."""

    batch_size: int
    fps: Positive
    latency_ms: Latency
    interval: str
    """Work between start and stop of the clock; begins with "estimated" where a compiler says it."""
    course_ms: tuple[NonNegative, ...] = ()
    """Milliseconds of batches of a run over all images, see `course_of`; the percentiles are of all batches."""
    batch_ms: tuple[Positive, ...] = ()
    """Of each timed batch, in order; empty where the document does not hold them, as before 2026-12."""
    yardstick_ms: tuple[Positive, ...] = ()
    """Of a small fixed network on the same device, each timed just before the batch; empty where there is none."""
    yardstick: str = ""
    """Name of that network, or why there is none."""
    remarks: tuple[str, ...] = ()
    """Warm-up, drift and changes of the clock, see `harness.checks.steadiness`."""

    @property
    def estimated(self) -> bool:
        """Whether no clock was involved."""
        return self.interval.startswith(ESTIMATED)


class Diagnosis(Record):
    """Known mistakes that explain a deviation."""

    faults: tuple[str, ...]
    """Ids of the catalogue, `harness.faults`; none where nothing known explains it."""
    residual: float | None
    """Difference of the heads that remains, not exceeded by 99 of 100 values; None where it is not finite."""
    confidence: float
    stage: str = "heads"
    """The stage of the suite whose deviation is explained."""


class Published(Record):
    """A published figure of the model or the device, with its source."""

    figure: Literal["AP", "fps"]
    value: Positive
    """An AP as a fraction."""
    of: str
    """The images, geometry, precision and batch size that it is published for."""
    images: int | None = None
    """Number of images of an AP, where it is known."""
    precision: str | None = None
    batch_size: int | None = None
    source: str


class Run(Record):
    """Everything about one device at one precision."""

    device: str
    execution: Execution
    precision: str
    verdict: Verdict
    expected_failures: int = 0
    """Number of stages that failed as an expectation says."""
    not_run: tuple[str, ...] = ()
    """Stages that were owed and did not run, as ``STAGE at batch size N``."""
    executed: dict[str, str] = Field(default_factory=dict)
    """Provider, precision, threads and versions that the device really ran with."""
    stages: tuple[Stage, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    perf: tuple[Perf, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()
    published: tuple[Published, ...] = ()
    """Figures of this model, and of this device with its network, that the cards of the run state."""


class Data(Record):
    """The images of the run."""

    name: str
    images: int
    sha256: str


class Part(Record):
    """Share of a run that was run by itself, to be merged with the others."""

    shard: str
    """Number of the part / number of parts."""
    images: int
    file: str
    """Name of the file beside the document that holds what merging needs."""
    sha256: str


class Document(Record):
    """The results document, schema 2."""

    schema_: Literal[2] = Field(default=2, alias="schema")
    model: str
    data: Data | None
    weights_sha256: str | None = None
    """Of the PyTorch weights; None where there are none, and in documents before 2026-12."""
    onnx_sha256: str | None = None
    """Of the user's ONNX with its external data; None likewise."""
    environment: dict[str, str]
    verdict: Verdict
    expected_failures: int = 0
    """Sum over the runs."""
    problems: tuple[str, ...] = ()
    """Errors beside the stages, failed tests of the suite itself, findings of the gate."""
    runs: tuple[Run, ...] = ()
    part: Part | None = None
    """Of a shard; None of a whole run."""


class Reported(Record):
    """A record on its way from a check to the document; the same with and without pytest-xdist."""

    device: str
    precision: str
    test: str
    """The test that reports it, ``module.py::test_name``."""
    record: Annotated[Stage | Accuracy | Perf | Diagnosis, Field()]


class Executed(Record):
    """Provider, precision and versions that a device ran with, on their way to the document."""

    device: str
    precision: str
    executed: dict[str, str]


class Trouble(Record):
    """Something that went wrong and that no stage tells of, on its way to the document."""

    device: str | None
    """None where it concerns no device, such as a failed test of the suite itself."""
    text: str
    verdict: Verdict
    """`error`, `deviates` or `incomplete`: the best that the run can then be."""


Message = Reported | Executed | Trouble
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)


def pack(message: Message) -> str:
    """Write a message as text, which pytest-xdist carries from worker to controller."""
    return message.model_dump_json()


def unpack(text: str) -> Message:
    """Read a message that `pack` wrote."""
    return _MESSAGE.validate_json(text)


def to_json(document: Document) -> dict[str, Any]:
    """Turn a document into plain JSON values."""
    return document.model_dump(mode="json", by_alias=True)
