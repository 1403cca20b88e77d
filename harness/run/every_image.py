"""Detections of every image of a run against the reference's, without a second run of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from harness.cards import require_one_stage
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.comparison import Comparison
from harness.checks.detections import judge_detections, stands_out, table_of
from harness.checks.margins import Margins
from harness.data.detections import Results
from harness.run.family import family_of
from harness.run.session import Session

EVERY = "detections of all images"


def judge_every_image(session: Session, name: str, batch_size: int) -> Iterator[Comparison]:
    """Hold the detections of a device in all images to the reference's, within what the heads may differ by.

    What the heads of an image may differ by takes several runs of the reference to find. So all images are held to
    the most that those of the sample images may, and only of one that stands out is it found: a right port may come
    to that where its image amplifies rounding, or peaks tie. The first image that deviates ends the search.

    A run that cannot be judged is left to the stage of accuracy.
    """
    if session.is_reference(name, batch_size):
        return
    with suppress(DeviceOutputError, NonFiniteHeadError):
        yield _judge(session, session.detections(name, batch_size))


def _judge(session: Session, results: Results) -> Comparison:
    card, family, golden = require_one_stage(session.card), family_of(session.card), session.reference_results
    most = {head: max(allowed[head] for allowed in session.samples.allowed) for head in session.samples.allowed[0]}

    def is_beyond(image_id: int) -> bool:
        margins = Margins.of_rows(card, most, family.place(card, session.dataset.size(image_id)))
        return stands_out(card, table_of(card, results[image_id]), table_of(card, golden[image_id]), margins)

    beyond = [image_id for image_id in results if is_beyond(image_id)]
    passed = Comparison(
        EVERY, 0.0, 0.0, sum(len(found) for found in results.values()), images=len(results), beyond=len(beyond)
    )
    for image_id in beyond:
        found = _judge_image(session, results, image_id)
        if found.problem is not None:
            return replace(
                found, what=EVERY, problem=f"{found.what}: {found.problem}", images=passed.images, beyond=passed.beyond
            )
    return passed


def _judge_image(session: Session, results: Results, image_id: int) -> Comparison:
    card = require_one_stage(session.card)
    heads, placement, allowed = session.samples.of_image(image_id)
    rows = table_of(card, results[image_id])
    return judge_detections(card, rows, heads, placement, allowed, f"image {image_id}")
