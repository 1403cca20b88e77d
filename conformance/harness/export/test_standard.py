"""The standard dialect computes the network's outputs; the file states its origin and names no path."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript
import pytest
import torch
from torch import Tensor, nn

import harness
from conformance.support.full_disk import file_size_limit
from conformance.support.small_model import SHA256, SIDES, WIDTH, small_card, small_images, small_network, tiny_network
from conformance.support.written_onnx import assert_computes, assert_equal, assert_names_no_path, run_onnx
from harness.cards import ModelCard
from harness.cards.model import Decode
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.errors import HarnessError
from harness.export import export_standard, load_onnx_checked
from harness.export.fold import fold_batch_norm

pytestmark = pytest.mark.export

ARCHITECTURES = ["dla_34", "dlav0_34", "res_18", "res_50", "resdcn_18", "resdcn_50"]
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export a small network once for every test that asks for it."""
    files: dict[tuple[str, int | None], Path] = {}

    def once(arch: str, batch_size: int | None = None) -> Path:
        if (arch, batch_size) not in files:
            path = files[arch, batch_size] = tmp_path_factory.mktemp(arch) / "model.onnx"
            write(small_network(arch), small_card(arch), path, batch_size)
        return files[arch, batch_size]

    return once


def write(network: HeadedNetwork, card: ModelCard, path: Path, batch_size: int | None = 1) -> Path:
    export_standard(network, card, path, batch_size=batch_size, weights_sha256=SHA256)
    return path


def forward(network: nn.Module, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with torch.inference_mode():
        return {head: tensor.numpy() for head, tensor in network(torch.from_numpy(images)).items()}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_exported_heads_equal_those_of_the_network(arch: str, export: Export) -> None:
    assert small_card(arch).output.names == ("hm", "wh", "reg")
    assert_computes(onnx.load(export(arch)), small_network(arch), small_card(arch), small_images(3))


def test_every_sample_of_a_batch_equals_its_own_run(export: Export) -> None:
    images = small_images(3)
    together = run_onnx(export("resdcn_18"), images)
    for sample in range(3):
        alone = run_onnx(export("resdcn_18"), images[sample : sample + 1])
        assert_equal({head: values[sample : sample + 1] for head, values in together.items()}, alone, 1e-5)


def test_a_static_export_states_its_batch_size_and_computes_the_same(export: Export) -> None:
    static, dynamic = export("resdcn_18", 2), export("resdcn_18")
    tensors = load_onnx_checked(static).graph
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*tensors.input, *tensors.output)]
    assert shapes == [[2, 3, 64, 96], [2, 80, 16, 24], [2, 2, 16, 24], [2, 2, 16, 24]]
    assert_equal(run_onnx(static, small_images(2)), run_onnx(dynamic, small_images(2)), 1e-6)


def test_an_export_has_the_form_that_its_card_states(tmp_path: Path) -> None:
    image = {"name": "pixels", "layout": "NHWC", "dtype": "uint8"}
    output = {"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True, "hm": "probability"}
    network = tiny_network()
    path = write(network, small_card(image=image, output=output), tmp_path / "form.onnx", None)
    # Small pixels, lest the logits saturate the sigmoid.
    pixels = np.random.default_rng(0).integers(0, 4, (2, *SIDES, 3), np.uint8)
    heads = forward(network, pixels.transpose(0, 3, 1, 2).astype(np.float32))
    probability = 1 / (1 + np.exp(-heads["hm"]))
    exported = run_onnx(path, pixels)
    assert list(exported) == ["all"]
    parts = dict(zip(("reg", "hm", "wh"), np.split(exported["all"], (2, 82), axis=1), strict=True))
    assert_equal(parts, {"reg": heads["reg"], "hm": probability, "wh": heads["wh"]})


@pytest.mark.parametrize("arch", ["dla_34", "resdcn_18"])
def test_batch_norm_behind_every_dcn_folds_into_it(arch: str) -> None:
    network, folded = small_network(arch), small_network(arch)
    fold_batch_norm(folded)
    count = {kind: sum(isinstance(m, kind) for m in network.modules()) for kind in (DCNv2, nn.BatchNorm2d)}
    left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert left == count[nn.BatchNorm2d] - count[DCNv2]
    assert_equal(forward(folded, small_images(2)), forward(network, small_images(2)), 1e-5)


@pytest.mark.parametrize("arch", ["dla_34", "resdcn_18"])
def test_every_dcn_is_one_native_deformable_convolution(arch: str, export: Export) -> None:
    model = load_onnx_checked(export(arch))
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["DeformConv"] == sum(isinstance(m, DCNv2) for m in small_network(arch).modules())
    assert operators["BatchNormalization"] == operators["GridSample"] == 0
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]


def test_weights_keep_the_names_of_the_checkpoint(export: Export) -> None:
    network = small_network("dla_34")
    names = {tensor.name for tensor in load_onnx_checked(export("dla_34")).graph.initializer}
    convolutions = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, DCNv2 | nn.ConvTranspose2d)}
    assert convolutions <= names


def test_the_metadata_say_what_was_exported_and_by_what(export: Export) -> None:
    metadata = {entry.key: entry.value for entry in load_onnx_checked(export("dla_34")).metadata_props}
    assert metadata == {
        "dialect": "standard",
        "architecture": "dla_34",
        "width": str(WIDTH),
        "weights_sha256": SHA256,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "centernet_conformance": harness.__version__,
    }


def test_another_export_is_the_same_to_the_byte_and_silent(
    export: Export, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = export("res_18").read_bytes()
    capfd.readouterr()
    again = write(small_network("res_18"), small_card("res_18"), tmp_path / "again.onnx", None)
    assert capfd.readouterr() == ("", "")
    assert again.read_bytes() == first
    assert list(tmp_path.iterdir()) == [again]


@pytest.mark.parametrize("arch", ["dla_34", "res_18"])
def test_no_path_of_the_exporting_machine_is_in_the_file(arch: str, export: Export) -> None:
    assert_names_no_path(load_onnx_checked(export(arch)))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (small_card(None), "no network to export"),
        (small_card(image={"keep_res": True}), "fixed input size"),
        (small_card(category_ids=(1, 2)), r"network has the heads hm \(80 channels\).* says hm \(2 channels\)"),
        (small_card(output={"names": ("hm", "wh"), "heads": ("hm", "wh"), "box": "ltrb"}), r"says .*wh \(4"),
        (small_card(decode=Decode(stride=8)), r"output 'hm' of shape \(\?, 80, 16, 24\), the card says \(1, 80, 8, 12"),
    ],
    ids=["onnx-only", "keep_res", "classes", "ltrb", "stride"],
)
def test_a_card_that_is_not_of_the_network_is_refused(card: ModelCard, message: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=message):
        write(tiny_network(), card, tmp_path / "model.onnx", None)
    assert not list(tmp_path.iterdir())


class DataDependent(HeadedNetwork):
    """Takes a branch that depends on values, which no graph can hold."""

    def features(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    network = DataDependent({"hm": 80, "wh": 2, "reg": 2}, 3, 0)
    with pytest.raises(HarnessError, match=r"torch.onnx.export failed"):
        write(network, small_card(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_exporter_that_writes_another_opset_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: real(*a, **{**k, "opset_version": 18}))
    with pytest.raises(HarnessError, match="'': 18"):
        write(tiny_network(), small_card(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with file_size_limit(1000), pytest.raises(HarnessError, match=r"model\.onnx: File too large"):
        write(tiny_network(), small_card(), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"older"
