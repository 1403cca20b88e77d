"""Folders between hosts: inputs and heads come out as they went in, and what is damaged or missing is named."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.support.small_training import small_card
from harness.cards import DeviceCard, ModelCard
from harness.centernet.decode import NonFiniteHeadError, decode, to_image_space
from harness.centernet.heads import DeviceOutputError
from harness.centernet.preprocess import preprocess
from harness.data.dataset import Category, Dataset, ImageEntry, Instances
from harness.devices.artifact import Artifact
from harness.errors import HarnessError
from harness.exchange.heads import decode_folder, write_heads
from harness.exchange.inputs import write_inputs
from harness.exchange.stems import file_stems, stems_cut_alike
from harness.types import Outputs

SIZES = [(100, 60), (64, 128), (90, 90)]
CARD = small_card(categories=(1, 2), height=64, width=64)


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    """Three images of random pixels with ids 5, 6, 7."""
    random = np.random.default_rng(2)
    entries = []
    for id_, (width, height) in enumerate(SIZES, start=5):
        cv2.imwrite(str(tmp_path / f"im.{id_}.png"), random.integers(0, 256, (height, width, 3), np.uint8))
        entries.append(ImageEntry(id_, f"im.{id_}.png", width, height))
    return Dataset(tmp_path, Instances(tuple(entries), (), (Category(1, "a"), Category(2, "b"))))


class Echo:
    """A device whose heads are a function of the pixels of each slot alone."""

    card = DeviceCard(
        name="echo", description="d", execution="stand-in", toolchain="none", dialect="module", precisions=("fp32",)
    )
    artifact = Artifact(None, (), (), None, {"provider": "none"})

    def heads(self, image: NDArray[np.generic]) -> dict[str, NDArray[np.float16]]:
        """(channels, h, w) heads of one network input."""
        grid = image.astype(np.float32)[:, ::4, ::4]
        heads = {"hm": grid[:2], "wh": np.abs(grid[1:]), "reg": grid[:2] % 1}
        return {name: head.astype(np.float16) for name, head in heads.items()}

    def check(self) -> None: ...

    def convert(self, *_: object) -> Artifact:
        return self.artifact

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        found = [self.heads(image) for image in images]
        return {name: np.stack([heads[name] for heads in found]) for name in ("hm", "wh", "reg")}


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        small_card(height=64, width=96, layout="NHWC", geometry="letterbox"),
        small_card(height=64, width=64, dtype="uint8", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3),
        small_card(keep_res=True).model_copy(update={"batch_sizes": (1,)}),
    ],
    ids=["official", "NHWC", "uint8", "keep_res"],
)
def test_input_files_hold_what_preprocessing_gives(images: Dataset, tmp_path: Path, card: ModelCard) -> None:
    write_inputs(card, images, tmp_path / "inputs")
    manifest = json.loads((tmp_path / "inputs" / "manifest.json").read_text())
    assert [entry["image_id"] for entry in manifest["images"]] == [5, 6, 7]
    files = ["im.5.bin", "im.6.bin", "im.7.bin", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "inputs").iterdir()) == files
    for entry in manifest["images"]:
        raw = (tmp_path / "inputs" / entry["file"]).read_bytes()
        expected, placement = preprocess(card, images.read_image(entry["image_id"]))
        stored = np.frombuffer(raw, {"float32": "<f4", "uint8": "u1"}[manifest["input"]["dtype"]])
        np.testing.assert_array_equal(stored.reshape(entry["shape"]), expected)
        assert entry["sha256"] == hashlib.sha256(raw).hexdigest()
        np.testing.assert_array_equal(entry["placement"]["forward"], placement.forward)
        np.testing.assert_array_equal(entry["placement"]["inverse"], placement.inverse)
        assert tuple(entry["placement"]["image_size"]) == placement.image_size
        assert tuple(entry["placement"]["input_size"]) == placement.input_size


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_heads_are_those_of_each_image_in_the_devices_own_dtype(images: Dataset, tmp_path: Path, slots: int) -> None:
    told: list[tuple[int, int]] = []
    echo, folder = Echo(), tmp_path / "heads"
    write_heads(
        echo, echo.artifact, CARD, images, slots, folder, sha256="5ha", progress=lambda *done: told.append(done)
    )
    assert told[-1] == (3, 3)
    for id_ in images.image_ids:
        expected = echo.heads(preprocess(CARD, images.read_image(id_))[0])
        with np.load(folder / f"im.{id_}.npz") as saved:
            assert set(saved.files) == {"hm", "wh", "reg"}
            assert saved["hm"].dtype == np.float16
            for name, head in expected.items():
                np.testing.assert_array_equal(saved[name], head)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device"] == {"name": "echo", "execution": "stand-in", "executed": {"provider": "none"}}
    assert (manifest["batch_size"], manifest["model_sha256"]) == (slots, "5ha")


def test_device_with_other_outputs_leaves_no_folder(images: Dataset, tmp_path: Path) -> None:
    echo = Echo()
    card = small_card(categories=(1, 2, 3), height=64, width=64)
    with pytest.raises(DeviceOutputError, match="hm"):
        write_heads(echo, echo.artifact, card, images, 1, tmp_path / "heads", sha256="")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.fixture
def heads(images: Dataset, tmp_path: Path) -> Path:
    """Heads as another tool would write them: without a manifest."""
    (tmp_path / "heads").mkdir()
    for id_ in images.image_ids:
        found: dict[str, Any] = Echo().heads(preprocess(CARD, images.read_image(id_))[0])
        np.savez_compressed(tmp_path / "heads" / f"im.{id_}.npz", **found)
    return tmp_path / "heads"


def test_detections_of_a_folder_are_those_of_its_heads_in_image_pixels(images: Dataset, heads: Path) -> None:
    results = decode_folder(CARD, images, heads)
    assert set(results) == {5, 6, 7}
    for id_ in images.image_ids:
        image, placement = preprocess(CARD, images.read_image(id_))
        batch = {name: head[None] for name, head in Echo().heads(image).items()}
        expected = to_image_space(CARD, decode(CARD, batch)[0], placement)
        assert len(expected) > 0
        np.testing.assert_array_equal(results[id_].boxes, expected.boxes)
        np.testing.assert_array_equal(results[id_].scores, expected.scores)
        np.testing.assert_array_equal(results[id_].classes, expected.classes)


RIGHT = np.zeros((2, 16, 16))


def saved(name: str, hm: NDArray[Any]) -> Callable[[Path], object]:
    """Write heads of which the first has this name and these values."""
    return lambda path: np.savez(path, **{name: hm, "wh": RIGHT, "reg": RIGHT})


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (Path.unlink, "1 of the 3 images have no heads: im.6.npz"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "no readable .npz"),
        (lambda path: path.write_bytes(b""), "no readable .npz"),
        (saved("hm", np.array([None])), "no readable .npz"),
        (saved("heatmap", RIGHT), "the file holds heatmap, wh, reg, the card has the heads hm, wh, reg"),
        (saved("hm", np.zeros((16, 16, 2))), "head hm has shape"),
    ],
    ids=["missing", "cut", "empty", "pickled", "other names", "other layout"],
)
def test_damaged_heads_are_an_error_that_names_the_file(
    images: Dataset, heads: Path, damage: Callable[[Path], object], match: str
) -> None:
    damage(heads / "im.6.npz")
    with pytest.raises(HarnessError, match=match) as caught:
        decode_folder(CARD, images, heads)
    assert str(caught.value.file).endswith(("im.6.npz", "heads"))


def test_heads_that_are_not_finite_are_a_deviation_that_names_the_file(images: Dataset, heads: Path) -> None:
    with np.load(heads / "im.7.npz") as saved:
        arrays: dict[str, Any] = dict(saved)
    arrays["wh"][0, 3, 4] = np.nan
    np.savez(heads / "im.7.npz", **arrays)
    with pytest.raises(NonFiniteHeadError, match="head wh") as caught:
        decode_folder(CARD, images, heads)
    assert caught.value.__notes__ == [f"in {heads / 'im.7.npz'}"]


def test_names_that_ais_bench_would_make_one_are_found(images: Dataset) -> None:
    assert stems_cut_alike(images) == ["im.5", "im.6", "im.7"]
    assert stems_cut_alike(images.first(1)) == []


def test_images_that_would_share_a_file_are_refused(images: Dataset) -> None:
    first, second, third = images.instances.images
    clash = replace(images.instances, images=(first, replace(second, file_name="sub/im.5.jpg"), third))
    with pytest.raises(HarnessError, match=r"1 file names differ only in folder or suffix: im\.5"):
        file_stems(Dataset(images.folder, clash))
