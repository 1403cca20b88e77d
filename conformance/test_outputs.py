"""Outputs made elsewhere: every tool's layout gives the same detections, and what is not of the run is refused."""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.output_folders import CARD, STEMS, dataset, heads_of, write_image, write_npy
from conformance.small_model import GRID, small_card
from harness.cards import ModelCard
from harness.cards.model import Decode
from harness.dataset import Dataset
from harness.decode import NonFiniteHeadError, decode, to_image_space
from harness.errors import HarnessError
from harness.outputs.folder import detect_outputs, open_outputs
from harness.preprocess import place
from harness.results import Results
from harness.types import Heads

pytestmark = pytest.mark.numerics


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    return dataset(tmp_path)


def fill(folder: Path, **how: Any) -> Path:  # noqa: ANN401
    """Outputs of every image, as ais_bench writes them unless said otherwise."""
    for seed, stem in enumerate(STEMS):
        write_image(folder, stem, heads_of(seed), **how)
    return folder


def expected(images: Dataset, dtype: str = "float32") -> Results:
    """What the library makes of the same heads without any file."""
    results = Results()
    for seed, image_id in enumerate(images.image_ids):
        heads = Heads(**{name: values.astype(dtype) for name, values in heads_of(seed).named().items()})
        found = decode(CARD, heads)[0]
        results.add(image_id, to_image_space(CARD, found, place(CARD, images.size(image_id))))
    return results


def assert_same(found: Results, wanted: Results, atol: float = 0, best: int = 100) -> None:
    assert list(found) == list(wanted)
    for image_id in wanted:
        assert len(wanted[image_id]) > 10
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_allclose(
                getattr(found[image_id], name)[:best], getattr(wanted[image_id], name)[:best], rtol=0, atol=atol
            )


def detected(images: Dataset, folder: Path, card: ModelCard = CARD) -> Results:
    return detect_outputs(open_outputs(card, images, folder))


@pytest.mark.parametrize(
    ("how", "place_", "description"),
    [
        ({}, "dumpout_bs1", "ais_bench, .bin, float32; hm = output 0, wh = output 1, reg = output 2 (by size and con"),
        ({"kind": "npy"}, "2026_11_21-16_00_00", "ais_bench, .npy, float32"),
        ({"first": 1}, "dumpOutput_device0", "benchmark.x86_64, .bin, float32; hm = output 0"),
        ({"first": 1, "order": ("wh", "reg", "hm")}, "dumpOutput_device0", "wh = output 0, reg = output 1, hm = outp"),
        ({"mark": "_output"}, "20261121_160000", "msame, .bin, float32"),
    ],
    ids=["ais_bench", "npy", "benchmark.x86_64", "built-in recipe", "msame"],
)
def test_layout_of_every_tool_gives_the_same_detections(
    images: Dataset, tmp_path: Path, how: dict[str, Any], place_: str, description: str
) -> None:
    fill(tmp_path / "result" / place_, **how)
    for folder in (tmp_path / "result", tmp_path / "result" / place_):
        outputs = open_outputs(CARD, images, folder)
        assert description in outputs.description
        assert_same(detect_outputs(outputs), expected(images))


def test_outputs_in_float16_are_told_by_their_size(images: Dataset, tmp_path: Path) -> None:
    outputs = open_outputs(CARD, images, fill(tmp_path / "out", dtype="float16"))
    assert ".bin, float16" in outputs.description
    assert_same(detect_outputs(outputs), expected(images, "float16"))


def test_text_with_six_decimals_is_read_and_said_to_be_so(images: Dataset, tmp_path: Path) -> None:
    outputs = open_outputs(CARD, images, fill(tmp_path / "out", kind="txt"))
    assert ".txt with six decimals" in outputs.description
    assert_same(detect_outputs(outputs), expected(images), atol=1e-4, best=30)


def test_results_of_several_devices_are_one_run(images: Dataset, tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        write_image(tmp_path / "out" / f"device{seed % 2}", stem, heads_of(seed))
    assert_same(detected(images, tmp_path / "out"), expected(images))


@pytest.mark.parametrize("order", list(itertools.permutations(("hm", "wh", "reg"))), ids="-".join)
def test_heads_are_told_apart_in_any_order_and_another_than_the_cards_is_said(
    images: Dataset, tmp_path: Path, order: tuple[str, ...]
) -> None:
    outputs = open_outputs(CARD, images, fill(tmp_path / "out", order=order))
    assert outputs.order.places == {head: order.index(head) for head in order}
    assert ("not as in the card" in outputs.description) == (order != ("hm", "wh", "reg"))
    assert_same(detect_outputs(outputs), expected(images))


def test_heads_that_content_does_not_tell_apart_are_in_the_order_of_the_card(images: Dataset, tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        heads = heads_of(seed)
        write_image(tmp_path / "out", stem, replace(heads, wh=heads.wh / 12))  # boxes below a cell
    outputs = open_outputs(CARD, images, tmp_path / "out")
    assert outputs.order.places == {"hm": 0, "wh": 1, "reg": 2}
    assert "by size and the card's order, since the content does not tell" in outputs.description


def test_outputs_beyond_the_heads_are_left_alone(images: Dataset, tmp_path: Path) -> None:
    """As of a model that also gives the sigmoid of its heatmap."""
    fill(tmp_path / "out", first=1)
    for seed, stem in enumerate(STEMS):
        probabilities = 1 / (1 + np.exp(-heads_of(seed).hm))
        (tmp_path / "out" / f"{stem}_0.bin").write_bytes(probabilities.astype(np.float32).tobytes())
    outputs = open_outputs(CARD, images, tmp_path / "out")
    assert outputs.order.places == {"hm": 1, "wh": 2, "reg": 3}
    assert_same(detect_outputs(outputs), expected(images))


def test_concatenated_heads_are_split(images: Dataset, tmp_path: Path) -> None:
    card = small_card(output={"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True})
    (tmp_path / "out").mkdir()
    for seed, stem in enumerate(STEMS):
        named = heads_of(seed).named()
        joined = np.concatenate([named[head] for head in ("reg", "hm", "wh")], axis=1)
        (tmp_path / "out" / f"{stem}_0.bin").write_bytes(joined.tobytes())
    assert_same(detected(images, tmp_path / "out", card), expected(images))


def test_part_of_the_images_is_taken_from_a_folder_of_all(images: Dataset, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    entries = [{"id": e.id, "file_name": e.file_name, "width": 640, "height": 480} for e in images.instances.images]
    truth = {"images": entries, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations" / "instances_images.json").write_text(json.dumps(truth))
    assert len(detected(images.first(2), fill(tmp_path / "out"))) == 2


def test_names_that_ais_bench_cut_at_the_first_dot_are_found(tmp_path: Path) -> None:
    images = dataset(tmp_path, ("a.x", "b.y"))
    for seed, stem in enumerate(("a", "b")):
        write_image(tmp_path / "out", stem, heads_of(seed))
    assert len(detected(images, tmp_path / "out")) == 2


def test_names_that_become_one_when_cut_are_refused(tmp_path: Path) -> None:
    images = dataset(tmp_path, ("a.x", "a.y"))
    write_image(tmp_path / "out", "a", heads_of(0))
    with pytest.raises(HarnessError, match=r"'a' is what is left of 2 names cut at the first dot.*: a\.x, a\.y"):
        open_outputs(CARD, images, tmp_path / "out")


def cut(folder: Path) -> None:
    path = folder / "000000000285_1.bin"
    path.write_bytes(path.read_bytes()[:-4])


def batch_of_four(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(4 * path.read_bytes())


def of_uint8(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[::4])


def of_another_model(folder: Path) -> None:
    for path in folder.glob("*_0.bin"):
        path.write_bytes(path.read_bytes()[: 20 * 16 * 24 * 4])


def with_sigmoid(folder: Path) -> None:
    for path in folder.glob("*_0.bin"):
        values = np.frombuffer(path.read_bytes(), np.float32)
        path.write_bytes((1 / (1 + np.exp(-values))).astype(np.float32).tobytes())


def also_as_npy(folder: Path) -> None:
    write_npy(heads_of(1).hm, folder / "000000000285_0.npy")


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
        (lambda folder: (folder / "000000000285_2.bin").unlink(), "1 results are missing.*: 000000000285_2.bin"),
        (
            lambda folder: [path.unlink() for path in folder.glob("000000000724*")],
            "1 results are missing for the 5 images: all of 000000000724",
        ),
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
        (lambda folder: [path.unlink() for path in folder.glob("*_1.bin")], "the outputs are numbered 0, 2"),
        (lambda folder: (folder.parent / "out_summary.json").write_text("{"), "no summary of ais_bench"),
    ],
    ids=[
        "file missing",
        "image missing",
        "truncated",
        "whole batch in a file",
        "uint8",
        "other classes",
        "sigmoid applied",
        "two kinds",
        "two devices",
        "copied image",
        "stale",
        "other image",
        "foreign file",
        "output missing",
        "summary damaged",
    ],
)
def test_folder_that_is_not_one_whole_run_is_refused_with_the_names(
    images: Dataset, tmp_path: Path, damage: Callable[[Path], object], message: str
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
def test_array_file_of_other_content_is_refused(
    images: Dataset,
    tmp_path: Path,
    content: Any,  # noqa: ANN401
    message: str,
) -> None:
    folder = fill(tmp_path / "out", kind="npy")
    np.save(folder / "000000000285_1.npy", content, allow_pickle=True)
    with pytest.raises(HarnessError, match=f"000000000285_1.npy: {message}"):
        open_outputs(CARD, images, folder)


@pytest.mark.parametrize(
    ("text", "message"), [("1.0 2.0", "2 values, where head wh takes 768"), ("[INFO] x", "cannot")]
)
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


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    card = small_card(decode=Decode(top_k=5))
    stems = [f"{index:012}" for index in range(120)]
    for seed, stem in enumerate(stems):
        write_image(tmp_path / "out", stem, heads_of(seed))
    peaks = []
    for count in (24, 120):
        outputs = open_outputs(card, dataset(tmp_path, stems[:count]), only(tmp_path / "out", stems[:count]))
        tracemalloc.start()
        detect_outputs(outputs)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    of_an_image = 4 * (80 + 2 + 2) * GRID[0] * GRID[1]
    assert (peaks[1] - peaks[0]) / 96 < of_an_image / 20


def only(folder: Path, stems: Sequence[str]) -> Path:
    """A folder with the results of these images alone."""
    some = folder.with_name(f"{folder.name}-{len(stems)}")
    some.mkdir()
    for stem in stems:
        for index in range(3):
            (some / f"{stem}_{index}.bin").symlink_to(folder / f"{stem}_{index}.bin")
    return some


def test_the_same_folder_gives_the_same_detections_twice(images: Dataset, tmp_path: Path) -> None:
    folder = fill(tmp_path / "out")
    assert_same(detected(images, folder), detected(images, folder))
