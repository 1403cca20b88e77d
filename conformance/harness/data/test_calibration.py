"""The ranges of int8 come from the requested images, preprocessed as for the model, and from nothing else."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.stand_ins import tpu_mlir as fake_tpu_mlir
from conformance.support.tiny import IMAGES, TinySetup
from harness.cards import ModelCard
from harness.centernet.preprocess import preprocess
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset, ImageEntry, Instances, load_coco
from harness.devices.artifact import Exported
from harness.devices.registry import create_device
from harness.errors import HarnessError


@pytest.fixture
def coco(tiny: TinySetup, tmp_path: Path) -> Path:
    """A copy of the tiny data set, for changes."""
    return Path(shutil.copytree(tiny.coco, tmp_path / "coco"))


def preprocessed(card: ModelCard, dataset: Dataset, image_id: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return preprocess(card, dataset.read_image(image_id))[0]


@settings(max_examples=50, deadline=None)
@given(available=st.integers(1, 40), asked=st.integers(1, 60))
def test_as_many_images_as_asked_are_spread_from_the_first_to_the_last(available: int, asked: int) -> None:
    images = tuple(ImageEntry(10 + place, f"{place}.png", 8, 8) for place in range(available))
    chosen = Calibration(ModelCard.model_construct(), Dataset(Path("d"), Instances(images, (), ())), asked).image_ids
    assert len(set(chosen)) == len(chosen) == min(asked, available)
    assert list(chosen) == sorted(chosen)
    assert chosen[0] == 10
    if len(chosen) > 1:
        assert chosen[-1] == 9 + available
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("size", [1, 4])
def test_inputs_are_the_preprocessed_images_and_fill_the_last_batch(tiny: TinySetup, size: int) -> None:
    card, dataset = tiny.model_card, tiny.dataset
    calibration = Calibration(card, dataset, 6)
    fed = [image for batch in calibration.inputs(size) for image in batch]
    ids = [*calibration.image_ids, *calibration.image_ids][: -(-6 // size) * size]
    assert len(fed) == len(ids)
    for image, image_id in zip(fed, ids, strict=True):
        np.testing.assert_array_equal(image, preprocessed(card, dataset, image_id))
        assert image.dtype == np.float32


def test_key_is_that_of_the_images_and_of_how_they_are_fed(tiny: TinySetup, coco: Path) -> None:
    card = tiny.model_card
    key = Calibration(card, load_coco(coco), IMAGES).key()
    assert key == Calibration(card, tiny.dataset, IMAGES).key()  # wherever they lie
    assert key != Calibration(card, tiny.dataset, IMAGES - 1).key()
    other = card.model_copy(update={"input": card.input.model_copy(update={"mean": (0.4, 0.4, 0.4)})})
    assert key != Calibration(other, tiny.dataset, IMAGES).key()
    assert key == Calibration(card.model_copy(update={"description": "d"}), tiny.dataset, IMAGES).key()


def test_key_changes_with_the_bytes_of_an_image(tiny: TinySetup, coco: Path) -> None:
    key = Calibration(tiny.model_card, load_coco(coco), 3).key()
    first, *_, last = sorted((coco / "val2017").iterdir())
    last.write_bytes(last.read_bytes() + b"\0")
    changed = Calibration(tiny.model_card, load_coco(coco), 3).key()
    assert changed != key
    unused = sorted((coco / "val2017").iterdir())[1]
    unused.write_bytes(first.read_bytes())
    assert Calibration(tiny.model_card, load_coco(coco), 3).key() == changed


def test_no_images_are_an_error_that_names_the_folder(tiny: TinySetup, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no image to calibrate with") as caught:
        Calibration(tiny.model_card, Dataset(tmp_path, Instances((), (), ()))).key()
    assert caught.value.file == str(tmp_path)


@pytest.fixture(scope="module")
def exported(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return fake_tpu_mlir.static(tiny.card, tiny.onnx, tmp_path_factory.mktemp("export") / "tiny.onnx", 2)


@pytest.fixture
def order(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """The tiny network for a chip of the stand-in toolchain, in a cache of its own."""
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return exported


def with_images(order: Exported, dataset: Dataset, count: int) -> Exported:
    return Exported(order.card, order.dialect, None, order.path, Calibration(order.card, dataset, count))


def test_tool_gets_the_samples_by_input_name_and_keeps_none(tiny: TinySetup, order: Exported, tmp_path: Path) -> None:
    root = fake_tpu_mlir.install(tmp_path / "cache")
    create_device("bm1684x:simulated").convert(with_images(order, tiny.dataset, 5), 2, "int8")
    given = sorted((root / fake_tpu_mlir.DATASET).iterdir())
    assert len(given) == 3  # batches of two
    expected = list(Calibration(order.card, tiny.dataset, 5).inputs(2))
    for file, batch in zip(given, expected, strict=True):
        with np.load(file) as saved:
            assert saved.files == [order.card.input.name]
            np.testing.assert_array_equal(saved["input"], batch)
    assert not list((tmp_path / "cache" / "calibration").rglob("*.npz"))


def test_other_images_give_other_ranges(tiny: TinySetup, coco: Path, order: Exported, tmp_path: Path) -> None:
    root, device = fake_tpu_mlir.install(tmp_path / "cache"), create_device("bm1684:simulated")
    for _ in range(2):
        device.convert(with_images(order, load_coco(coco), 3), 2, "int8")
    assert fake_tpu_mlir.starts(root).count("run_calibration") == 1
    file = sorted((coco / "val2017").iterdir())[0]
    image = load_coco(coco).read_image(load_coco(coco).image_ids[0])
    assert cv2.imwrite(str(file), image // 2 + 100)
    device.convert(with_images(order, load_coco(coco), 3), 2, "int8")
    assert fake_tpu_mlir.starts(root).count("run_calibration") == 2


def test_image_that_cannot_be_read_is_named_and_no_ranges_are_kept(coco: Path, order: Exported, tmp_path: Path) -> None:
    root = fake_tpu_mlir.install(tmp_path / "cache")
    broken = sorted((coco / "val2017").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(HarnessError, match="not a whole image") as caught:
        create_device("bm1684x:simulated").convert(with_images(order, load_coco(coco), 3), 2, "int8")
    assert caught.value.file == str(broken)
    assert "run_calibration" not in fake_tpu_mlir.starts(root)
    kept = [path for kind in ("calibration", "bmodel") for path in (tmp_path / "cache" / kind).glob("*")]
    assert [path.suffix for path in kept if path.suffix != ".lock"] == []
