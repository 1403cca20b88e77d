"""Folders of outputs that are not one whole run of the model are refused, with the names of what is wrong."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conformance.support.output_folders import (
    CARD,
    STEMS,
    Array,
    dataset,
    detected,
    fill,
    heads_of,
    write_image,
    write_npy,
)
from conformance.support.small_model import GRID, small_card
from harness.centernet.decode import NonFiniteHeadError
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.exchange.output_folder import open_outputs


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    return dataset(tmp_path)


Damage = Callable[[Path], object]


def removed(pattern: str) -> Damage:
    """Delete the files of a pattern."""
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


def rewritten(pattern: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change the content of the files of a pattern."""
    return lambda folder: [path.write_bytes(change(path.read_bytes())) for path in folder.glob(pattern)]


def sigmoid(content: bytes) -> bytes:
    return (1 / (1 + np.exp(-np.frombuffer(content, np.float32)))).astype(np.float32).tobytes()


cut = rewritten("000000000285_1.bin", lambda content: content[:-4])
batch_of_four = rewritten("*", lambda content: 4 * content)
of_uint8 = rewritten("*", lambda content: content[::4])
of_another_model = rewritten("*_0.bin", lambda content: content[: 20 * 16 * 24 * 4])
with_sigmoid = rewritten("*_0.bin", sigmoid)


def also_as_npy(folder: Path) -> None:
    write_npy(heads_of(1)["hm"], folder / "000000000285_0.npy")


def also_on_another_device(folder: Path) -> None:
    write_image(folder / "device1", "000000000285", heads_of(1))


def image_again(folder: Path) -> None:
    for index in range(3):
        (folder / f"000000000776_{index}.bin").write_bytes((folder / f"000000000139_{index}.bin").read_bytes())


def stale(folder: Path) -> None:
    """A run over the first four images, into the folder of an earlier one."""
    written = [f"result/out/{stem}_{index}.bin" for stem in STEMS[:4] for index in range(3)]
    samples = {str(i): {"infiles": ["x.bin"], "outfiles": written[3 * i : 3 * i + 3]} for i in range(4)}
    (folder.parent / "out_summary.json").write_text(json.dumps({"filesinfo": samples}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed("000000000285_2.bin"), "1 results are missing.*: 000000000285_2.bin"),
        (removed("000000000724*"), "1 results are missing for the 5 images: all of 000000000724"),
        (cut, "000000000285_1.bin: 3068 bytes, where head wh takes 768 values of float32: truncated"),
        (batch_of_four, "491520 bytes.*as large as 4 images, as if the om took one input file for a whole batch of 4"),
        (of_uint8, "the outputs are not the heads of 'small'.*as large as uint8 values"),
        (of_another_model, "not the heads of 'small': they are 000000000139_0.bin 30720 bytes"),
        (with_sigmoid, "000000000139_0.bin: output.hm: the values of hm lie in 0..1: the sigmoid is applied already"),
        (also_as_npy, "two results for output 0 of one image: 000000000285_0.bin and 000000000285_0.npy"),
        (also_on_another_device, r"two results for output 0 of one image: 0+285_0.bin and device1/0+285_0.bin"),
        (image_again, "000000000776_0.bin: it holds what 000000000139_0.bin holds, though the images differ"),
        (stale, "3 results are not of the run that out_summary.json tells of: 000000000776_0.bin"),
        (lambda folder: (folder / "000000000999_0.bin").touch(), "1 files are results of no image.*: 000000000999_0"),
        (lambda folder: (folder / "notes.md").touch(), "1 files are results of no image.*: notes.md"),
        (removed("*_1.bin"), "the outputs are numbered 0, 2"),
        (lambda folder: (folder.parent / "out_summary.json").write_text("{"), "no summary of ais_bench"),
    ],
    ids=[
        *("file missing", "image missing", "truncated", "whole batch in a file", "uint8", "other classes"),
        *("sigmoid applied", "two kinds", "two devices", "copied image", "stale", "other image", "foreign file"),
        *("output missing", "summary damaged"),
    ],
)
def test_folder_that_is_not_one_whole_run_is_refused_with_the_names(
    images: Dataset, tmp_path: Path, damage: Damage, message: str
) -> None:
    damage(fill(tmp_path / "out"))
    with pytest.raises(HarnessError, match=message) as caught:
        detected(images, tmp_path / "out")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((1, 2, *GRID), np.int8), "the file holds int8, and heads are floating numbers"),
        (np.array([None]), "no readable .npy file"),
        (np.zeros((1, 2, 8, 8), np.float32), r"float32 of shape \(1, 2, 8, 8\), where head wh takes 768 values"),
    ],
)
def test_array_file_of_other_content_is_refused(images: Dataset, tmp_path: Path, content: Array, message: str) -> None:
    folder = fill(tmp_path / "out", kind="npy")
    np.save(folder / "000000000285_1.npy", content, allow_pickle=True)
    with pytest.raises(HarnessError, match=f"000000000285_1.npy: {message}"):
        open_outputs(CARD, images, folder)


@pytest.mark.parametrize(("text", "message"), [("1.0 2.0", "2 values, where head wh takes 768"), ("[INFO]", "cannot")])
def test_text_file_of_other_content_is_refused(images: Dataset, tmp_path: Path, text: str, message: str) -> None:
    folder = fill(tmp_path / "out", kind="txt")
    (folder / "000000000285_1.txt").write_text(text)
    with pytest.raises(HarnessError, match=f"000000000285_1.txt: {message}"):
        detected(images, folder)


def test_values_that_are_not_finite_name_the_file(images: Dataset, tmp_path: Path) -> None:
    folder = fill(tmp_path / "out")
    values = np.fromfile(folder / "000000000632_2.bin", np.float32)
    values[5] = np.inf
    values.tofile(folder / "000000000632_2.bin")
    with pytest.raises(NonFiniteHeadError) as caught:
        detected(images, folder)
    assert caught.value.__notes__ == [f"in {folder / '000000000632_2.bin'}"]


def test_folder_without_results_and_of_several_runs_is_refused(images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no such folder"):
        open_outputs(CARD, images, tmp_path / "nowhere")
    (tmp_path / "result").mkdir()
    with pytest.raises(HarnessError, match="no result files"):
        open_outputs(CARD, images, tmp_path / "result")
    for run in ("bs1", "bs4"):
        fill(tmp_path / "result" / run)
    with pytest.raises(HarnessError, match="results of 2 runs: bs1, bs4"):
        open_outputs(CARD, images, tmp_path / "result")


def test_keep_res_model_has_no_sizes_to_hold_files_to(images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=re.escape("keep_res")):
        open_outputs(small_card(image={"keep_res": True}), images, fill(tmp_path / "out"))
