"""The device card: the contract of one target."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.cards.expectations import Expectation, load_expectations
from harness.cards.model import ModelCard
from harness.cards.schema import Record, parse, read_toml

CARDS = Path(__file__).parent / "devices"

Execution = Literal["silicon", "simulated", "emulated", "stand-in", "elsewhere"]
"""Elsewhere: outputs that came from another host, whose word it is what computed them."""


class Limit(Record):
    """Something a device cannot do."""

    what: Literal["variable_shape", "dynamic_batch", "perf"]
    reason: str


class PublishedSpeed(Record):
    """A published speed of this device."""

    model: str
    """Architecture, at its full width and 512x512."""
    precision: str
    batch_size: int = Field(gt=0)
    fps: float = Field(gt=0)
    ap: float | None = Field(default=None, gt=0, lt=1)
    """On val2017, where it is published with the speed."""
    source: str


class TpuMlir(Record):
    """What Sophon's compiler is told of a chip."""

    chip: str
    """As ``model_deploy --chip`` has it."""
    float_mode: Literal["F16", "F32"]
    """Precision of what stays in float beside INT8."""


class Peak(Record):
    """What a chip can do at most."""

    tflops: float = Field(gt=0)
    """At the precision of the published figures, of one chip; a multiplication and an addition count as two."""
    source: str


class Ascend(Record):
    """What Ascend's compiler is told of a chip, and what its figures are of."""

    socs: tuple[str, ...] = Field(min_length=1)
    """As ``atc --soc_version`` has them; the first is the one that figures were published for."""
    chips: int = Field(default=1, gt=0)
    """On a card, where published figures are those of a card."""
    peak: Peak


class DeviceCard(Record):
    """The contract of one target: toolchain, dialect, precisions, limits."""

    name: str
    description: str
    execution: Execution
    toolchain: str
    dialect: Literal["module", "standard", "decomposed", "torchscript", "ascend", "none"]
    """Export dialect that `convert` takes; `module` is the PyTorch network itself, `none` that nothing is converted."""
    whole_on_chip: bool = False
    """Every operator is expected on the chip: one that the compiler leaves to the host's CPU is a deviation."""
    tpu_mlir: TpuMlir | None = None
    ascend: Ascend | None = None
    precisions: tuple[str, ...] = Field(min_length=1)
    """The first is what the toolchain chooses where nothing is said."""
    cannot: tuple[Limit, ...] = ()
    published: tuple[PublishedSpeed, ...] = ()
    expectations: tuple[Expectation, ...] = Field(default=(), exclude=True)
    """From the file beside the card, not from the card itself."""

    def published_fps(self, model: ModelCard, precision: str, batch_size: int) -> float | None:
        """What is published for this network, precision and batch size."""
        network = model.network
        if network is None or network.width != 1 or (model.input.height, model.input.width) != (512, 512):
            return None
        asked = (network.arch, precision, batch_size)
        return next((one.fps for one in self.published if (one.model, one.precision, one.batch_size) == asked), None)

    def reason_against(self, what: str) -> str | None:
        """Why the device cannot do `what`, None where it can."""
        return next((limit.reason for limit in self.cannot if limit.what == what), None)


def load_device_card(path: Path) -> DeviceCard:
    """The device card at `path`, with the expectations beside it.

    Raises:
        HarnessError: The file is missing, or has an unknown key, a wrong type or an impossible value.
    """
    card = parse(DeviceCard, read_toml(path), path)
    return card.model_copy(update={"expectations": load_expectations(path)})
