"""The device card: the contract of one target."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from harness.cards.expectations import Expectation, load_expectations, require_soon
from harness.cards.schema import RULE, FiniteRecord, Name, RecordT, is_plain_name, parse, read_toml
from harness.cards.two_stage import AnyCard, TwoStageCard

CARDS = Path(__file__).parent / "devices"

Execution = Literal["silicon", "simulated", "emulated", "stand-in", "elsewhere"]
"""`elsewhere`: outputs that came from another host; nothing here can verify what computed them."""


SUFFIX = re.compile(r"(:(simulated|emulated|stand-in|outputs))+")


def _device_name(text: str) -> str:
    plain, colon, rest = text.partition(":")
    if not is_plain_name(plain) or (colon and SUFFIX.fullmatch(colon + rest) is None):
        raise ValueError(f"{RULE}; ':simulated' or ':emulated' may follow")
    return text


DeviceName = Annotated[str, AfterValidator(_device_name)]


class Limit(FiniteRecord):
    """Something a device cannot do."""

    what: Literal["variable_shape", "dynamic_batch", "perf"]
    reason: str


class PublishedSpeed(FiniteRecord):
    """A published speed of this device."""

    model: str
    """Architecture, at its full width and 512x512."""
    precision: str
    batch_size: int = Field(gt=0)
    fps: float = Field(gt=0)
    ap: float | None = Field(default=None, gt=0, lt=1)
    """On val2017, where it is published with the speed."""
    source: str


class Peak(FiniteRecord):
    """Largest arithmetic rate of one chip."""

    tflops: float = Field(gt=0)
    """At the precision of the published speeds; a multiplication and an addition count as two."""
    source: str
    verified: bool = True
    """False where the source was not at hand when the figure was written: a speed is compared with it, not judged."""


class DeviceCard(FiniteRecord):
    """The contract of one target: toolchain, dialect, precisions, limits."""

    name: DeviceName
    description: str
    execution: Execution
    toolchain: str
    dialect: str
    """Dialect that `convert` takes, one of `harness.devices.base.dialects`: an export dialect, `module` for the PyTorch
    network itself, or `none` where nothing is converted."""
    whole_on_chip: bool = False
    """Every operator is expected on the chip: one that the compiler leaves to the host's CPU is a deviation."""
    chips: int = Field(default=1, gt=0, le=4096)
    """Chips on the card that `published` speeds are of."""
    peak: Peak | None = None
    vendor: dict[str, Any] = Field(default_factory=dict)
    """Options of the toolchain. The toolchain's own record validates them, see `vendor_table`."""
    environment: tuple[str, ...] = ()
    """Environment variables of the runtime that may change what it computes, ``*`` for any ending: stored outputs are
    those of other values of them no longer."""
    precisions: tuple[Name, ...] = Field(min_length=1)
    """The first is what the toolchain chooses where nothing is said."""
    cannot: tuple[Limit, ...] = ()
    published: tuple[PublishedSpeed, ...] = ()
    expectations: tuple[Expectation, ...] = Field(default=(), exclude=True)
    """Known failures in force: from the file beside a card of this project's own, not from the card itself."""
    proposals: tuple[Expectation, ...] = Field(default=(), exclude=True)
    """Known failures that the author of another card says: printed, and excusing nothing."""
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """File that the card was read from; None for a card made in code."""
        return self._file

    def read_from(self, file: Path | None) -> DeviceCard:
        """Return the same card as read from `file`, which messages name."""
        card = self.model_copy()
        card._file = file
        return card

    def published_fps(self, model: AnyCard, precision: str, batch_size: int) -> float | None:
        """Return the published images/s of this network, precision and batch size; None where there is none."""
        asked = (precision, batch_size)
        every = self.published_of(model)
        return next((one.fps for one in every if (one.precision, one.batch_size) == asked), None)

    def published_of(self, model: AnyCard) -> tuple[PublishedSpeed, ...]:
        """Return the published speeds of this network, at its full width and 512x512."""
        if isinstance(model, TwoStageCard):
            return ()
        network = model.network
        if network is None or network.width != 1 or (model.input.height, model.input.width) != (512, 512):
            return ()
        return tuple(one for one in self.published if one.model == network.arch)

    def reason_against(self, what: str) -> str | None:
        """Return the reason why the device cannot do `what`; None where it can."""
        return next((limit.reason for limit in self.cannot if limit.what == what), None)

    def vendor_table(self, kind: type[RecordT]) -> RecordT:
        """Return the table ``[vendor]`` as the record of a toolchain.

        Args:
            kind: The toolchain's record.

        Raises:
            HarnessError: The table has an unknown or missing key, or a wrong value.
        """
        return parse(kind, self.vendor, self.file or Path(self.name), table="vendor")


def card_file(name: str) -> Path:
    """Return the file of the card of one of this project's own devices, such as ``bm1684:emulated``."""
    return CARDS / f"{name.replace(':', '-')}.toml"


def load_device_card(path: Path) -> DeviceCard:
    """Read the device card at `path` and the expectations beside it, which for a card of others are proposals.

    Raises:
        HarnessError: A file is missing, or has an unknown key, a wrong type or an impossible value.
    """
    card = parse(DeviceCard, read_toml(path), path)
    found, is_own = load_expectations(path), path.parent.resolve() == CARDS.resolve()
    beside = {
        "expectations": require_soon(found, datetime.date.today()) if is_own else (),
        "proposals": () if is_own else found,
    }
    return card.model_copy(update=beside).read_from(path)
