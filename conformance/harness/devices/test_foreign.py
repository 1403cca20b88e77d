"""Devices of other distributions: forty lines do, and nothing that their code does ends, skips or greens a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from conformance.support import vendor
from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from harness.cards import load_device_card
from harness.cards.device import card_file
from harness.centernet.heads import DeviceOutputError, check_contract
from harness.devices import foreign, registry
from harness.devices.artifact import Exported
from harness.devices.base import Device, time_batches
from harness.devices.link import ChildError
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.errors import HarnessError
from harness.export import export_standard

CARD = vendor.CARD.format(name="mine", description="My chip", precision="fp32").replace("stand-in", "silicon")

DEVICE = """\
from pathlib import Path

import onnxruntime

from harness.cards import load_device_card
from harness.devices.artifact import Artifact, TensorSpec


def specs(tensors):
    return tuple(TensorSpec(one.name, tuple(one.shape), "float32") for one in tensors)


class Mine:
    def __init__(self):
        self.card = load_device_card(Path(__file__).with_name("mine.toml"))

    def check(self):
        pass  # raise HarnessError where the chip or its runtime is missing

    def convert(self, exported, batch_size, precision):
        session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
        inputs, outputs = specs(session.get_inputs()), specs(session.get_outputs())
        return Artifact(session, inputs, outputs, batch_size, {"precision": precision})

    def run(self, artifact, images):
        outputs = artifact.payload.run(None, {artifact.inputs[0].name: images})
        return {spec.name: values for spec, values in zip(artifact.outputs, outputs)}
"""

Installed = Callable[..., Device]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Installs the device as a distribution of its own, with some of its lines exchanged, and makes it."""
    made: list[Device] = []

    def install(old: str = "", new: str = "", card: str = CARD) -> Device:
        (tmp_path / "mine.py").write_text(DEVICE.replace(old, new) if old else DEVICE)
        (tmp_path / "mine.toml").write_text(card)
        metadata = tmp_path / "mine-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\nmine = mine:Mine\n")
        monkeypatch.syspath_prepend(tmp_path)
        made.append(registry.create_device("mine"))
        return made[0]

    yield install
    for device in made:
        device.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("foreign") / "model.onnx"
    return export_standard(tiny_network(), small_card(), path, batch_size=2, weights_sha256=SHA256)


def test_a_device_of_forty_five_lines_is_one(installed: Installed, exported: Exported, tmp_path: Path) -> None:
    assert len(f"{CARD}{DEVICE}".splitlines()) <= 45
    (tmp_path / "mine.expectations.toml").write_text(
        vendor.ENTRY.format(test=vendor.HEADS, stage="heads", until=vendor.NEVER)
    )
    device, own = installed(), OnnxRuntimeDevice()
    assert (device.card.name, device.card.file) == ("mine", tmp_path / "mine.toml")
    assert [entry.source for entry in device.card.proposals] == ["ticket 17"]
    assert device.card.expectations == ()
    assert registry.create_device("mine") is device, "one process, whoever asks"
    device.check()
    artifact = device.convert(exported, 2, "fp32")
    check_contract(exported.card, artifact, 2)
    assert artifact.executed == {"precision": "fp32"}
    images = small_images(2)
    found, expected = device.run(artifact, images), own.run(own.convert(exported, 2, "fp32"), images)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert len(time_batches(device, artifact, images, 3)) == 3
    device.close()
    device.close()
    assert registry.create_device("mine") is not device
    registry.create_device("mine").close()


def test_device_that_does_not_close_is_ended(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(foreign, "CLOSING_S", 0.2)
    device = installed(
        "    def check(self):\n",
        "    def close(self):\n        __import__('time').sleep(600)\n\n    def check(self):\n",
    )
    device.close()
    assert device.closed
    assert "device 'mine' of distribution 'mine' has not answered within 0.2 s (close)" in caplog.text


RUN = "        outputs = artifact.payload.run"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("import os; os._exit(0)", HarnessError, r"'mine' of distribution 'mine': its process ended with status 0"),
        ("import pytest; pytest.skip('busy')", HarnessError, r"'mine'.* raised .*Skipped: busy"),
        ("import pytest; pytest.xfail('busy')", HarnessError, r"'mine'.* raised .*XFailed: busy"),
        ("raise SystemExit(0)", HarnessError, r"'mine'.* raised builtins\.SystemExit: 0"),
        ("raise RuntimeError('lost')", ChildError, r"'mine'.*: RuntimeError: lost"),
        (
            "from harness.centernet.heads import DeviceOutputError as E; raise E('hm', 'one', 'none', stage='heads')",
            DeviceOutputError,
            "head hm: expected one, got none",
        ),
        ("return artifact", ChildError, "TypeError: a Artifact, and not a NumPy array or plain data"),
    ],
)
def test_device_that_ends_or_skips_is_an_error_that_names_it(
    installed: Installed, exported: Exported, line: str, kind: type[Exception], message: str
) -> None:
    device = installed(RUN, f"        {line}\n{RUN}")
    artifact = device.convert(exported, 2, "fp32")
    for _ in range(2):  # a process that is gone stays an error
        with pytest.raises(kind, match=message):
            device.run(artifact, small_images(2))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Mine:", "import os; os._exit(0)\nclass Mine:", r"its process ended with status 0 \(starting\)"),
        ("import onnxruntime\n", "import vendor_runtime\n", "'mine' cannot be imported: No module named 'vendor_run"),
        ("def run(", "def runs(", "'mine' is no device: it lacks run"),
        ("        pass  #", "        raise SystemExit  #", ""),
    ],
)
def test_device_that_cannot_be_made_is_refused_by_name(installed: Installed, old: str, new: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message or "raised builtins.SystemExit") as caught:
        installed(old, new).check()
    assert "mine" in str(caught.value)


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("module", "takes the PyTorch network itself(.|\n)*take one of standard, decomposed, ascend, torchscript"),
        ("standart", "no dialect 'standart'(.|\n)*did you mean 'standard'"),
        ("onnx-ml", "no dialect 'onnx-ml'(.|\n)*use one of module, standard"),
    ],
)
def test_dialect_that_cannot_be_handed_over_is_refused_with_the_field(
    installed: Installed, tmp_path: Path, dialect: str, message: str
) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        installed(card=CARD.replace("standard", dialect))
    assert (caught.value.file, caught.value.field) == (str(tmp_path / "mine.toml"), "dialect")


def test_card_that_is_wrong_is_an_error_with_file_and_field(installed: Installed, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"unknown key(.|\n)*did you mean 'execution'") as caught:
        installed(card=CARD.replace("execution", "executon"))
    assert (caught.value.file, caught.value.field) == (str(tmp_path / "mine.toml"), "executon")


@pytest.mark.parametrize("name", ["x\nverdict: conforms", "../x", "[/red]"])
def test_card_made_in_code_is_held_to_the_rules_of_names(name: str) -> None:
    card = load_device_card(card_file("onnxruntime")).model_copy(update={"name": name})
    told = {"card": card.model_dump_json(), "proposals": [], "file": None}
    with pytest.raises(HarnessError, match=r"vendor:Chip: name: not a device card: .*a name has 1 to 64 of"):
        foreign._card(told, "vendor:Chip")
