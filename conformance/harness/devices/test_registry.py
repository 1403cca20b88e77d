"""Devices by name: a sound one is found, anything else is refused with what to do."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from harness.cards import DeviceCard
from harness.cards.device import CARDS, card_file
from harness.cards.schema import Record
from harness.convert.ascend.chip import AscendChip
from harness.convert.tpu_mlir.chip import SophonChip
from harness.devices import registry
from harness.devices.base import Device, dialects
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError


class Sound(TorchDevice):
    """A device of another package."""

    def __init__(self) -> None:
        self.card: DeviceCard = TorchDevice().card.model_copy(update={"name": "sound"})


class Mute:
    """A device that cannot run."""

    card = TorchDevice().card
    convert, check = TorchDevice.convert, TorchDevice.check


class Cardless(TorchDevice):
    """A device without a card."""

    def __init__(self) -> None: ...


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install devices, given as pairs of name and value, in place of the real ones."""

    def install(*devices: tuple[str, str]) -> None:
        found = EntryPoints(EntryPoint(name, value, registry.GROUP) for name, value in devices)
        monkeypatch.setattr(registry, "entry_points", lambda *, group: found.select(group=group))

    return install


def test_the_devices_of_this_project_are_found() -> None:
    assert {"torch", "onnxruntime"} <= set(registry.device_names())
    for name in ("torch", "onnxruntime"):
        device: Device = registry.create_device(name)
        device.check()
        assert device.card.name == name


@pytest.mark.parametrize("name", sorted(path.stem for path in CARDS.glob("*.toml") if "." not in path.stem))
def test_card_of_every_own_device_is_found_by_its_name_and_has_a_known_dialect(name: str) -> None:
    device = registry.create_device(name.replace("-", ":"))
    assert card_file(device.card.name).stem == name
    assert device.card.dialect in dialects()
    device.close()


@pytest.mark.parametrize(
    ("kind", "table", "field", "message"),
    [
        (SophonChip, {"chip": "bm1684", "float_mod": "F16"}, "vendor.float_mod", "did you mean 'float_mode'"),
        (SophonChip, {"chip": "bm1684", "float_mode": "F8"}, "vendor.float_mode", "it is 'F8'"),
        (SophonChip, {"float_mode": "F16"}, "vendor.chip", "Field required"),
        (AscendChip, {"socs": []}, "vendor.socs", "at least 1 item"),
        (AscendChip, {"socs": ["Ascend310"], "chips": 4}, "vendor.chips", "unknown key"),
    ],
)
def test_table_of_a_vendor_is_open_on_the_card_and_strict_in_its_toolchain(
    kind: type[Record], table: dict[str, object], field: str, message: str
) -> None:
    card = registry.create_device("bm1684").card.model_copy(update={"vendor": table})
    with pytest.raises(HarnessError, match=message) as caught:
        card.vendor_table(kind)
    assert (caught.value.file, caught.value.field) == (str(CARDS / "bm1684.toml"), field)


def test_a_device_of_another_package_is_found(offer: Callable[..., None]) -> None:
    offer(("sound", f"{__name__}:Sound"), ("sound", f"{__name__}:Sound"))
    assert registry.device_names() == ["sound"]
    assert isinstance(registry.create_device("sound"), Sound)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"{__name__}:Mute", "lacks run"),
        (f"{__name__}:Cardless", "lacks a card"),
        (f"{__name__}:TorchDevice", "has the card of 'torch'"),
        (f"{__name__}:Absent", "cannot be imported: .*Absent"),
        ("vendor_runtime.device:Device", "cannot be imported: No module named 'vendor_runtime'"),
    ],
)
def test_a_class_that_is_no_device_is_refused(value: str, message: str, offer: Callable[..., None]) -> None:
    offer(("chip", value))
    with pytest.raises(HarnessError, match=message) as caught:
        registry.create_device("chip")
    assert caught.value.file == value


def test_an_unknown_device_is_answered_with_the_nearest_name(offer: Callable[..., None]) -> None:
    offer(("sound", f"{__name__}:Sound"), ("chip", "a:B"))
    with pytest.raises(HarnessError, match=r"no device named 'sund'\n.*did you mean 'sound'.*installed: chip, sound"):
        registry.create_device("sund")
    offer()
    with pytest.raises(HarnessError, match="pip install -e"):
        registry.create_device("torch")


def test_a_name_that_two_packages_offer_is_refused(offer: Callable[..., None]) -> None:
    offer(("sound", "a:B"), ("sound", f"{__name__}:Sound"))
    with pytest.raises(HarnessError, match=r"offered by a:B and by .*:Sound"):
        registry.create_device("sound")
