"""Findings of a draft in words: of every field of the card, how it was found and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.bootstrap import CONFIDENCE, LEAST_IMAGES
from harness.run.card_draft.findings import Finding, Sure
from harness.run.card_draft.port import Port
from harness.run.card_draft.preparation import Preparation
from harness.run.card_draft.reading import Reading
from harness.run.card_draft.roles import Evidence
from harness.run.card_draft.search import Answer, Best

CLEARLY = 0.25
"""Of 3: a reading that is more plausible than any other by this is likely."""


def explain(
    port: Port, evidence: Evidence, reading: Reading, preparation: Preparation, best: Best | None, doubt: str
) -> list[Finding]:
    """Say what stands behind every field.

    Args:
        port: The tensors.
        evidence: Their values.
        reading: Of the outputs.
        preparation: Of the images.
        best: The result of the search; None where nothing was read.
        doubt: Why there is no such result.
    """
    return [
        *_of_input(port),
        *_of_outputs(port, evidence, reading, best),
        *_of_images(port, preparation, reading, best, doubt),
        *_not_tried(best),
    ]


def _of_input(port: Port) -> Iterator[Finding]:
    stated = "the file states it"
    yield Finding("input.name", port.input.name, stated, "certain")
    yield Finding("input.layout", port.layout, f"3 channels in the shape {_shown(port.input.shape)}", "certain")
    sides = f"{port.sides[1]} x {port.sides[0]}"
    if port.open_sides:
        yield Finding("input.height", sides, "the file leaves the sides open; 512 is the usual one", "guess")
    else:
        yield Finding("input.height", sides, stated, "certain")
    yield Finding("input.dtype", port.input.dtype, stated, "certain")
    size = f"exactly {port.batch}" if port.batch else "any"
    yield Finding("batch_sizes", size, stated, "certain")


def _of_outputs(port: Port, evidence: Evidence, reading: Reading, best: Best | None) -> Iterator[Finding]:
    roles = reading.roles
    yield Finding("decode.stride", str(port.stride), "input over output grid", "certain")
    places = ", ".join(f"{head} is {roles.place_of(head)}" for head in roles.heads)
    how, sure = "shapes, and values at the peaks of the heatmap", _sure_of_roles(evidence, reading)
    yield _finding("output.heads", places, how, sure, best, "roles")
    low, high = evidence.range_of(roles)
    how = f"its values lie in {low:.3g} to {high:.3g}"
    yield Finding("output.hm", reading.hm, how, "certain" if reading.hm == "logits" else "likely")
    box = "width and height" if roles.box == "wh+reg" else "left, top, right, bottom"
    yield Finding("output.box", f"{roles.box} ({box})", "channels and values of the boxes", sure)
    if port.others:
        names = ", ".join(f"'{name}' {_shown(shape)}" for name, shape in port.others.items())
        yield Finding("port", f"not used: {names}", "not on the grid of the heads", "certain")
    unused = [name for name in port.heads if name not in roles.names]
    if unused:
        yield Finding(
            "port", f"not used: {', '.join(map(repr, unused))}", "other outputs speak more clearly", "certain"
        )


def _sure_of_roles(evidence: Evidence, reading: Reading) -> Sure:
    ranked = evidence.ranked()
    others = [plausible for roles, plausible in ranked if roles != reading.roles]
    own = next(plausible for roles, plausible in ranked if roles == reading.roles)
    return "likely" if not others or own - max(others) > CLEARLY else "guess"


def _of_images(
    port: Port, preparation: Preparation, reading: Reading, best: Best | None, doubt: str
) -> Iterator[Finding]:
    sure: Sure = "guess" if best is None else "likely"
    usual = f"what most CenterNets have: {doubt}"
    yield _finding("input.channel_order", preparation.order, usual, sure, best, "order")
    if port.input.dtype == "uint8":
        yield Finding("input.scale", preparation.pixels.name, "a uint8 input takes pixels as they are", "certain")
    else:
        yield _finding("input.scale", preparation.pixels.name, usual, sure, best, "pixels")
    yield _finding("input.geometry", preparation.placement, usual, sure, best, "placement")
    sizes = f"the sizes of boxes at the peaks: {doubt}"
    yield _finding("output.box_unit", reading.unit, sizes, sure, best, "unit")
    if reading.swapped:
        said = "" if best is None else f"{describe(best.answers['axes'], best.images)}; "
        how = f"{said}no card can say it: swap the channels of wh in the export"
        yield Finding("port", "height stands before width", how, "not found")
    elif best is None:
        yield Finding("port", "width before height", f"the usual order of wh: {doubt}", "guess")
    else:
        yield _finding("port", "width before height", usual, sure, best, "axes")


def _not_tried(best: Best | None) -> Iterator[Finding]:
    look = "look at the code that fed the model"
    yield Finding("input.pad_value", "0", f"grey level beside the image, not tried; {look}", "guess")
    yield Finding("decode.top_k", "100", f"what the official decoding keeps; {look}", "guess")
    ids, how = "the data set's, ascending", "the order of the classes is taken for that of the ids"
    if best is None:
        yield Finding("category_ids", ids, how, "guess")
    else:
        yield Finding("category_ids", ids, f"{how}, and AP {best.ap:.3f} is read so", "likely")


def _finding(field: str, value: str, how: str, sure: Sure, best: Best | None, question: str) -> Finding:
    """The finding of a field that a search may have answered."""
    answer = None if best is None else best.answers.get(question)
    if answer is None:
        return Finding(field, value, how, sure)
    assert best is not None
    said, told = describe(answer, best.images), answer.told_apart
    return Finding(field, value, said, "likely" if told else "not told apart")


def describe(answer: Answer, images: int) -> str:
    """The AP of an answer against the next best one, with the interval of the difference."""
    text = f"AP {answer.ap:.3f} on {images} images, {answer.second} {answer.second_ap:.3f}"
    found = answer.difference
    if found is None:
        return text
    if images < LEAST_IMAGES:
        return f"{text}: not told apart, at least {LEAST_IMAGES} images are needed"
    margin = f"ahead by {found.loss:.3f}, {CONFIDENCE:.0%} interval {found.low:.3f} to {found.high:.3f}"
    return f"{text}: {margin}" + ("" if answer.told_apart else ", so they are not told apart")


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
