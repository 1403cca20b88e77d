"""Outputs made elsewhere: every tool's layout gives the same detections, and what is not of the run is refused."""

import itertools
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.support.output_folders import CARD, STEMS, dataset, detected, fill, heads_of, write_image
from conformance.support.small_model import GRID, small_card
from harness.cards.model import Decode
from harness.centernet.decode import decode, to_image_space
from harness.centernet.preprocess import place
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.errors import HarnessError
from harness.exchange.output_folder import detect_outputs, open_outputs


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    return dataset(tmp_path)


def expected(images: Dataset, dtype: str = "float32") -> Results:
    """Decode the same heads without any file."""
    results = Results()
    for seed, image_id in enumerate(images.image_ids):
        heads = {name: values.astype(dtype) for name, values in heads_of(seed).items()}
        found = decode(CARD, heads)[0]
        results.add(image_id, to_image_space(CARD, found, place(CARD, images.size(image_id))))
    return results


def assert_same(found: Results, wanted: Results, atol: float = 0, best: int = 100) -> None:
    assert list(found) == list(wanted)
    for image_id in wanted:
        assert len(wanted[image_id]) > 10
        for name in ("boxes", "scores", "classes"):
            one, other = (getattr(results[image_id], name)[:best] for results in (found, wanted))
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


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
        write_image(tmp_path / "out", stem, {**heads, "wh": heads["wh"] / 12})  # boxes below a cell
    outputs = open_outputs(CARD, images, tmp_path / "out")
    assert outputs.order.places == {"hm": 0, "wh": 1, "reg": 2}
    assert "by size and the card's order, since the content does not tell" in outputs.description


def test_outputs_beyond_the_heads_are_left_alone(images: Dataset, tmp_path: Path) -> None:
    """As of a model that also gives the sigmoid of its heatmap."""
    fill(tmp_path / "out", first=1)
    for seed, stem in enumerate(STEMS):
        probabilities = 1 / (1 + np.exp(-heads_of(seed)["hm"]))
        (tmp_path / "out" / f"{stem}_0.bin").write_bytes(probabilities.astype(np.float32).tobytes())
    outputs = open_outputs(CARD, images, tmp_path / "out")
    assert outputs.order.places == {"hm": 1, "wh": 2, "reg": 3}
    assert_same(detect_outputs(outputs), expected(images))


def test_concatenated_heads_are_split(images: Dataset, tmp_path: Path) -> None:
    card = small_card(output={"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True})
    (tmp_path / "out").mkdir()
    for seed, stem in enumerate(STEMS):
        named = heads_of(seed)
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
