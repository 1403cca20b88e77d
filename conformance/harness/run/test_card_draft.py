"""A draft of a card says of a stranger's ONNX what its true card says, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.coloured import coloured_card, coloured_network, write_coloured_images
from conformance.support.stranger_onnx import Stranger, rewritten
from harness.cards import load_model_card
from harness.cards.model import Input
from harness.checks.bootstrap import Difference
from harness.data.dataset import Dataset, load_coco
from harness.errors import HarnessError
from harness.export import export_standard
from harness.run.card_draft import Draft, draft_card
from harness.run.card_draft.explain import describe
from harness.run.card_draft.roles import Evidence, Roles, possible_roles
from harness.run.card_draft.search import Answer
from harness.run.images import load_images
from harness.run.subject import load_subject
from harness.types import Float32, Progress

IMAGES = 12
BYTE = 1 / 255
NORMALISED = {
    "raw": (1.0, (0.0,) * 3, (1.0,) * 3),
    "0..1": (BYTE, (0.0,) * 3, (1.0,) * 3),
    "-1..1": (BYTE, (0.5,) * 3, (0.5,) * 3),
    "CenterNet": (BYTE, (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835)),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_coco(write_coloured_images(tmp_path_factory.mktemp("coloured") / "coco", IMAGES))


@contextmanager
def quiet(what: str) -> Iterator[Progress]:
    del what
    yield lambda done, total: None


def given_as(order: str, normalised: str, **changes: object) -> Input:
    scale, mean, std = NORMALISED[normalised]
    told = {"channel_order": order, "scale": scale, "mean": mean, "std": std, **changes}
    return Input.model_validate({**coloured_card().input.model_dump(), **told})


def drafted(folder: Path, stranger: Stranger, images: Dataset, *, annotated: bool = True) -> Draft:
    path = folder / "stranger.onnx"
    onnx.save(rewritten(coloured_network(), coloured_card(), stranger), path)
    return draft_card(path, images, images if annotated else None, quiet)


HOSTILE = {"hm": "/a b", "wh": "x\x1b[2J\n", "reg": '"'}
ALL = {"all": "40"}
STRANGERS = {
    "names": Stranger(given_as("BGR", "CenterNet", name="images:0"), HOSTILE, ("reg", "hm", "wh")),
    "pixels of bytes": Stranger(given_as("BGR", "raw", layout="NHWC", dtype="uint8"), order=("wh", "hm", "reg")),
    "one tensor": Stranger(given_as("RGB", "-1..1"), ALL, joined=("reg", "wh", "hm"), probability=True, batch=1),
    "no offsets": Stranger(given_as("RGB", "0..1"), {"hm": "A", "wh": "B"}, ("wh", "hm"), size=4.0, batch=2),
}  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_draft_says_what_the_true_card_says(tmp_path: Path, images: Dataset, stranger: Stranger) -> None:
    draft = drafted(tmp_path, stranger, images)
    card, given = draft.card, stranger.input
    assert card.input.model_copy(update={"mean": given.mean, "std": given.std}) == given
    assert np.allclose([card.input.mean, card.input.std], [given.mean, given.std], rtol=1e-3)
    whole = bool(stranger.joined)
    heads = stranger.joined if whole else stranger.order
    output = card.output
    assert output.heads == tuple(heads)
    assert output.names == (("40",) if whole else tuple(stranger.names.get(head, head) for head in heads))
    assert output.hm == ("probability" if stranger.probability else "logits")
    assert output.box_unit == ("grid" if stranger.size == 1 else "input")
    assert (card.category_ids, card.decode.stride) == ((1, 2, 3), 4)
    assert card.batch_sizes == ((1, 4) if stranger.batch is None else (stranger.batch,))
    (tmp_path / "card.toml").write_text(draft.text, encoding="utf-8")
    assert load_model_card(tmp_path / "card.toml") == card


def found(draft: Draft) -> dict[str, tuple[str, str]]:
    return {one.field: (one.value, one.sure) for one in draft.findings}


def test_images_tell_what_is_sure_and_what_is_not(tmp_path: Path, images: Dataset) -> None:
    stranger = Stranger(given_as("RGB", "0..1"))
    sure = drafted(tmp_path, stranger, images)
    assert found(sure)["input.channel_order"] == ("RGB", "likely")
    assert found(sure)["input.name"] == ("input", "certain")
    [order] = [one.how for one in sure.findings if one.field == "input.channel_order"]
    assert "BGR" in order
    assert "95% interval" in order
    few = drafted(tmp_path, stranger, images.first(6))
    assert found(few)["input.channel_order"] == ("RGB", "not told apart")
    assert "# not told apart: AP " in few.text
    guessed = drafted(tmp_path, stranger, images, annotated=False)
    assert found(guessed)["input.channel_order"] == ("BGR", "guess")
    assert guessed.card.output == sure.card.output
    assert "no annotated images were given" in guessed.text


@pytest.mark.parametrize(
    ("difference", "told"),
    [
        (Difference(0.01, -0.002, 0.03, 64), False),
        (Difference(0.01, 0.0, 0.03, 64), False),
        (Difference(0.01, 0.002, 0.03, 64), True),
        (Difference(0.01, 0.002, 0.03, 9), False),
    ],
)
def test_answers_are_told_apart_by_the_interval_on_enough_images(difference: Difference, told: bool) -> None:
    answer = Answer("RGB", 0.31, "BGR", 0.30, difference)
    assert answer.told_apart == told
    assert ("not told apart" in describe(answer, difference.images)) != told


def test_order_that_no_card_can_say_is_told(tmp_path: Path, images: Dataset) -> None:
    draft = drafted(tmp_path, Stranger(given_as("RGB", "0..1"), swap=True), images)
    assert found(draft)["port"] == ("height stands before width", "not found")
    assert "height stands before width" in draft.text


def test_other_categories_than_the_model_has_leave_a_guess(tmp_path: Path, images: Dataset) -> None:
    more = (*images.instances.categories, *images.instances.categories[:1])
    others = Dataset(images.folder, type(images.instances)(images.instances.images, images.instances.annotations, more))
    draft = drafted(tmp_path, Stranger(given_as("RGB", "0..1")), others)
    assert found(draft)["input.channel_order"] == ("BGR", "guess")
    assert "the heatmap has 3 classes, and the data set 4 categories" in draft.text


def test_heads_that_no_card_can_say_are_refused(tmp_path: Path, images: Dataset) -> None:
    with pytest.raises(HarnessError, match="wh and reg lie together in 'all'"):
        drafted(tmp_path, Stranger(given_as("RGB", "0..1"), joined=("wh", "reg")), images)
    with pytest.raises(HarnessError, match=r"computes in fp16\+fp32"):
        drafted(tmp_path, Stranger(given_as("RGB", "0..1"), half=True), images)


def test_embedded_model_is_described_without_annotated_images(tmp_path: Path) -> None:
    own = load_model_card("embedded_dlav0")
    subject = load_subject(own, None, None)
    assert subject.module is not None
    export_standard(subject.module, own, tmp_path / "own.onnx", batch_size=None, weights_sha256=subject.sha256)
    stranger = Stranger(
        own.input.model_copy(update={"name": "data", "layout": "NHWC"}), ALL, joined=("wh", "hm", "reg"), size=4.0
    )
    onnx.save(rewritten(onnx.load(tmp_path / "own.onnx"), own, stranger), tmp_path / "port.onnx")
    draft = draft_card(tmp_path / "port.onnx", load_images(None, 1), None, quiet)
    card = draft.card
    assert (card.input.name, card.input.layout, card.name) == ("data", "NHWC", "port")
    assert (card.output.names, card.output.heads, card.output.box_unit) == (("40",), ("wh", "hm", "reg"), "input")
    assert (card.output.hm, card.classes, card.category_ids) == ("logits", 80, own.category_ids)


def heads_of(random: np.random.Generator, classes: int, *, ltrb: bool, logits: bool, size: float) -> dict[str, Float32]:
    """Heads of two images with a few peaks, as trained networks give them."""
    hm = random.uniform(-9, -4, (2, classes, 16, 24))
    hm[:, random.integers(classes), 5::6, 5::6] = 2
    made = {
        "hm": hm if logits else 1 / (1 + np.exp(-hm)),
        "wh": random.uniform(2, 9, (2, 4 if ltrb else 2, 16, 24)) * size,
        "reg": random.uniform(0, 1, (2, 2, 16, 24)),
    }
    return {head: values.astype(np.float32) for head, values in made.items()}


@given(
    seed=st.integers(0, 99),
    classes=st.sampled_from([1, 2, 4, 20, 80]),
    order=st.permutations(["hm", "wh", "reg"]),
    ltrb=st.booleans(),
    offsets=st.booleans(),
    logits=st.booleans(),
    joined=st.booleans(),
    size=st.sampled_from([1.0, 4.0]),
)
@settings(deadline=None, max_examples=40)
def test_heads_are_told_apart_by_their_values(
    seed: int,
    classes: int,
    order: list[str],
    joined: bool,
    offsets: bool,
    **form: Any,  # noqa: ANN401
) -> None:
    made = heads_of(np.random.default_rng(seed), classes, **form)
    chosen = [head for head in order if head != "reg" or offsets]
    if joined:
        outputs = {"all": np.concatenate([made[head] for head in chosen], axis=1)}
    else:
        outputs = {f"out {head}": made[head] for head in chosen}
    evidence = Evidence(tuple(possible_roles({name: values.shape[1] for name, values in outputs.items()})))
    evidence.take(outputs, 2)
    best, _ = evidence.ranked()[0]
    assert isinstance(best, Roles)
    assert best.heads == tuple(chosen)
    assert (best.classes, best.box, best.concatenated) == (classes, "ltrb" if form["ltrb"] else "wh+reg", joined)
    assert evidence.holds_logits(best) == form["logits"]


def test_outputs_that_are_not_finite_say_nothing() -> None:
    evidence = Evidence(tuple(possible_roles({"a": 3, "b": 2})))
    evidence.take({"a": np.full((1, 3, 4, 4), np.nan, np.float32), "b": np.ones((1, 2, 4, 4), np.float32)}, 1)
    assert evidence.batches == 0
