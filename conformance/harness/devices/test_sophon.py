"""The drivers of Sophon's simulated chips, over a stand-in for tpu_mlir: what they give, keep and refuse."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from conformance.support.small_model import SHA256, small_card
from conformance.support.small_model import tiny_network as network_with_dcn
from conformance.support.stand_ins import tpu_mlir as fake_tpu_mlir
from conformance.support.tiny import TinySetup
from harness.centernet.heads import DeviceOutputError, check_contract, read_heads
from harness.centernet.preprocess import preprocess
from harness.data.calibration import Calibration
from harness.devices.artifact import Exported
from harness.devices.registry import create_device
from harness.errors import HarnessError
from harness.export import export_standard
from harness.types import Float32, Outputs

HEADS = ["hm", "wh", "reg"]
CHIPS = [(chip, precision) for chip in ("bm1684", "bm1684x") for precision in ("fp32", "int8")]
CHIPS += [("bm1684x", "fp16"), ("bm1684x", "bf16")]
Exports = dict[int, Exported]
"""By batch size."""


@pytest.fixture(scope="module")
def exports(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The tiny network as the chips take it."""
    folder = tmp_path_factory.mktemp("exports")
    return {size: fake_tpu_mlir.static(tiny.card, tiny.onnx, folder / f"{size}.onnx", size) for size in (1, 2)}


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in in a cache of its own."""
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return fake_tpu_mlir.install(tmp_path / "cache")


@pytest.fixture
def images(tiny: TinySetup) -> Float32:
    """Four images as the network is fed."""
    ids = tiny.dataset.image_ids[:4]
    return np.stack([preprocess(tiny.model_card, tiny.dataset.read_image(id_))[0] for id_ in ids]).astype(np.float32)


def order(exports: Exports, tiny: TinySetup, size: int = 1, precision: str = "fp32") -> Exported:
    """The model as the suite hands it to a device."""
    given = exports[size]
    calibration = Calibration(given.card, tiny.dataset, 3) if precision == "int8" else None
    return Exported(given.card, given.dialect, given.module, given.path, calibration)


def onnx_outputs(exported: Exported, images: Float32) -> Outputs:
    session = ort.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    return dict(zip(HEADS, session.run(HEADS, {"input": images}), strict=True))


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(("chip", "precision"), CHIPS)
def test_a_simulated_chip_gives_the_models_outputs_by_the_models_names(
    tiny: TinySetup, exports: Exports, images: Float32, chip: str, precision: str
) -> None:
    device = create_device(f"{chip}:simulated")
    artifact = device.convert(order(exports, tiny, 1, precision), 1, precision)
    check_contract(tiny.model_card, artifact, 1)
    assert (artifact.executed["chip"], artifact.executed["precision"]) == (chip, precision)
    found = device.run(artifact, images[:1])
    assert list(found) == HEADS
    for head, expected in onnx_outputs(exports[1], images[:1]).items():
        step = {"fp32": 1e-6, "int8": 1 / 512 + 1e-6}.get(precision, float(np.abs(expected).max()) / 1024)
        np.testing.assert_allclose(found[head], expected, rtol=0, atol=step)


def test_nothing_is_converted_or_simulated_twice(
    tiny: TinySetup, exports: Exports, images: Float32, toolchain: Path
) -> None:
    work = Counter[str]()

    def ask(chip: str = "bm1684x", size: int = 1, precision: str = "fp32", first: int = 0) -> Counter[str]:
        """Convert and simulate as a new run would; the tools that this started."""
        device = create_device(f"{chip}:simulated")
        artifact = device.convert(order(exports, tiny, size, precision), size, precision)
        device.run(artifact, images[first : first + size])
        now = Counter(name for name in fake_tpu_mlir.starts(toolchain) if name != "model_tool")
        new = now - work
        work.update(new)
        return new

    everything = Counter(("model_transform", "model_deploy", "model_runner"))
    assert ask() == everything
    assert ask() == Counter()
    assert ask(first=1) == Counter(["model_runner"])
    assert ask(size=2) == ask(precision="fp16") == everything
    int8 = everything + Counter(["model_deploy"])  # once to see what is lost where
    assert ask(precision="int8") == int8 + Counter(["run_calibration"])
    assert ask(precision="int8", chip="bm1684") == int8  # with the ranges of the other chip


def test_chip_without_its_toolchain_names_the_command_that_installs_it(
    tiny: TinySetup, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path))
    device = create_device("bm1684:simulated")
    for ask in (device.check, lambda: device.convert(order(exports, tiny), 1, "fp32")):
        with pytest.raises(HarnessError, match="is not installed") as caught:
            ask()
        assert caught.value.remedy == "python -m harness doctor --install tpu_mlir"


def entries(toolchain: Path, kind: str) -> list[str]:
    """Names of the entries of a kind in the cache."""
    folder = toolchain.parent.parent / kind
    return [path.name for path in folder.glob("*") if path.suffix != ".lock"] if folder.exists() else []


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("transform-fails", r"model_transform: ended with status 3; its last lines:\s+\| loading\s+\| AssertionError"),
        ("deploy-killed", r"model_deploy: ended with signal SIGKILL; its last lines:\s+\| out of memory"),
        ("no-bmodel", r"model_deploy: .*(without a|left no) bmodel"),
    ],
)
def test_conversion_that_fails_says_at_which_tool_and_is_made_anew(
    tiny: TinySetup, exports: Exports, toolchain: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, message: str
) -> None:
    device = create_device("bm1684x:simulated")
    monkeypatch.setenv(fake_tpu_mlir.MISTAKES, mistake)
    with pytest.raises(HarnessError, match=message) as caught:
        device.convert(order(exports, tiny), 1, "fp32")
    assert "bm1684x fp32" in caught.value.cause
    assert entries(toolchain, "bmodel") == []
    [log] = (toolchain.parent.parent / "logs").iterdir()
    assert str(log) in (caught.value.remedy or "")
    monkeypatch.delenv(fake_tpu_mlir.MISTAKES)
    assert device.convert(order(exports, tiny), 1, "fp32").executed["chip"] == "bm1684x"


def test_bmodel_of_another_chip_is_refused(
    tiny: TinySetup, exports: Exports, toolchain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_tpu_mlir.MISTAKES, "other-chip")
    with pytest.raises(HarnessError, match="the bmodel is for bm1688, and the device is bm1684x") as caught:
        create_device("bm1684x:simulated").convert(order(exports, tiny), 1, "fp32")
    assert str(caught.value.file).startswith(str(toolchain.parent.parent))


@pytest.mark.usefixtures("toolchain")
def test_operator_that_the_compiler_lacks_is_named_with_the_file(tmp_path: Path) -> None:
    card = small_card()
    given = export_standard(network_with_dcn(), card, tmp_path / "dcn.onnx", batch_size=1, weights_sha256=SHA256)
    with pytest.raises(HarnessError, match="the tool has no operator 'DeformConv'") as caught:
        create_device("bm1684x:simulated").convert(Exported(card, "decomposed", None, given.path), 1, "fp32")
    assert caught.value.file == str(tmp_path / "dcn.onnx")


def test_model_of_any_batch_size_is_refused_before_a_tool_is_started(tiny: TinySetup, toolchain: Path) -> None:
    with pytest.raises(HarnessError, match="the compiler needs a static shape") as caught:
        create_device("bm1684:simulated").convert(Exported(tiny.model_card, "decomposed", None, tiny.onnx), 1, "fp32")
    assert caught.value.file == str(tiny.onnx)
    assert fake_tpu_mlir.starts(toolchain) == []


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(("chip", "precision"), [("bm1684", "fp16"), ("bm1684x", "int8")])
def test_what_a_chip_cannot_convert_is_refused_by_the_option_to_change(
    exports: Exports, chip: str, precision: str
) -> None:
    """A precision that it does not have; int8 without images."""
    with pytest.raises(HarnessError) as caught:
        create_device(f"{chip}:simulated").convert(exports[1], 1, precision)
    assert caught.value.field == {"fp16": "--precision", "int8": "--calibration-images"}[precision]


def simulated(
    tiny: TinySetup, exports: Exports, images: Float32, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> Outputs:
    """Outputs of a simulation with a mistake."""
    device = create_device("bm1684x:simulated")
    artifact = device.convert(order(exports, tiny), 1, "fp32")
    monkeypatch.setenv(fake_tpu_mlir.MISTAKES, mistake)
    return device.run(artifact, images[:1])


@pytest.mark.usefixtures("toolchain")
def test_output_that_the_simulator_drops_is_a_deviation_of_the_device(
    tiny: TinySetup, exports: Exports, images: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = simulated(tiny, exports, images, monkeypatch, "dropped-output")
    with pytest.raises(DeviceOutputError, match="expected outputs named hm, wh, reg, got hm, wh"):
        read_heads(tiny.model_card, outputs, 1)


def test_simulation_without_outputs_is_an_error_and_is_not_kept(
    tiny: TinySetup, exports: Exports, images: Float32, toolchain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HarnessError):
        simulated(tiny, exports, images, monkeypatch, "no-outputs")
    assert entries(toolchain, "simulated") == []
