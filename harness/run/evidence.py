"""Evidence of a run for its page: images in which device and reference disagree, and a head that deviates.

All of it comes from what the processes of the run have left in their shared folder: no device is run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.cards import AnyCard, ModelCard
from harness.centernet.decode import scores_of
from harness.checks.disagreement import SHOWN_SCORE, Disagreement, disagreement
from harness.data.detections import Results
from harness.report.pictures import PAGE_BYTES, Box, Maps, Photo, Pictures, RunPictures, heat_maps, photograph
from harness.report.reasons import TOLD
from harness.report.records import Document, Run
from harness.run.checked import Checked
from harness.run.reference import GOLDEN
from harness.run.session import Session
from harness.types import Detections, Heads

MOST_PHOTOS = 4
MOST_BOXES = 16
"""Of each side of a photograph, the best first."""


def gather(session: Checked, document: Document) -> Pictures:
    """Draw what the page of a run shows, within what a page may hold; nothing for a training.

    Raises:
        HarnessError: An image can no longer be read.
    """
    if not isinstance(session, Session):
        return {}
    given = {session.device(name).card.name: name for name in session.options.devices}
    found, left = {}, PAGE_BYTES
    for run in document.runs:
        pictures = _of_run(session, given[run.device], run)
        if pictures.bytes > left:
            pictures = RunPictures(pictures.batch_size, note="left out: the page holds no more pictures")
        left -= pictures.bytes
        found[run.device, run.precision] = pictures
    return found


def _of_run(session: Session, name: str, run: Run) -> RunPictures:
    """Draw what one device did at the first batch size that is not green, or at the first of all."""
    told = [stage.batch_size for stage in run.stages if stage.outcome in TOLD]
    size = next((size for size in session.options.batch_sizes if size in told), session.options.batch_sizes[0])
    if session.is_reference(name, size):
        return RunPictures(size, note="this run is the reference: there is nothing to set beside it")
    golden = (session.reference_name, session.reference_batch_size, GOLDEN)
    if not (session.has_run(name, size) and session.has_run(*golden)):
        return RunPictures(size, note="no run over all images came to its end")
    own, right = session.detected(name, size), session.detected(*golden)
    photos = tuple(_photos(session, own.results, right.results))
    note = "" if photos else f"no image in which they visibly differ, of scores from {SHOWN_SCORE} on"
    pictures = RunPictures(size, photos, note=note)
    if size not in told or not isinstance(session.card, ModelCard):
        return pictures
    return replace(pictures, maps=_maps(session, session.card, own.heads, right.heads))


def _photos(session: Session, found: Results, golden: Results) -> Iterator[Photo]:
    """Draw the images in which they disagree most, the worst first; of several the one of lowest id."""
    apart = {image_id: disagreement(found[image_id], golden[image_id]) for image_id in golden if image_id in found}
    worst = sorted((one for one in apart if apart[one].total > 0), key=lambda one: (-apart[one].total, one))
    names = {category.id: category.name for category in session.dataset.instances.categories}
    for image_id in worst[:MOST_PHOTOS]:
        one = apart[image_id]
        truth = tuple(
            Box(*entry.bbox, f"{names[entry.category_id]}{', a crowd' if entry.iscrowd else ''}")
            for entry in session.dataset.instances.annotations
            if entry.image_id == image_id
        )
        sides = (
            ("reference", _boxes(session.card, names, golden[image_id], one.golden)),
            ("device", _boxes(session.card, names, found[image_id], one.found)),
        )
        source = photograph(session.dataset.read_image(image_id))
        name, place = session.dataset.path(image_id).name, session.dataset.size(image_id)
        yield Photo(name, place, source, truth, sides, _told(one))


def _told(apart: Disagreement) -> str:
    counts = {
        "only of the reference": int(apart.golden.sum()) - apart.moved,
        "only of the device": int(apart.found.sum()) - apart.moved,
        "of both with another score or place": apart.moved,
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _boxes(
    card: AnyCard, names: Mapping[int, str], detections: Detections, differs: NDArray[np.bool_]
) -> tuple[Box, ...]:
    shown = np.flatnonzero((detections.scores >= SHOWN_SCORE) | differs)[:MOST_BOXES]
    boxes = []
    for place in shown:
        x, y, right, bottom = map(float, detections.boxes[place])
        category = card.category_ids[detections.classes[place]]
        label = f"{names.get(category, f'category {category}')} {detections.scores[place]:.2f}"
        boxes.append(Box(x, y, right - x, bottom - y, label, bool(differs[place])))
    return tuple(boxes)


def _maps(session: Session, card: ModelCard, heads: Mapping[int, Heads], golden: Mapping[int, Heads]) -> Maps | None:
    """Draw the head that deviates most for its spread, in the sample image where it does; heatmaps before others."""
    shares = {
        (name, image_id): _share(heads[image_id][name], right)
        for image_id in golden.keys() & heads.keys()
        for name, right in golden[image_id].items()
        if heads[image_id][name].shape == right.shape
    }
    most = max(shares.values(), default=0.0)
    if most <= 0:
        return None
    # Whoever knows the task reads a heatmap at sight, so it is preferred where it is nearly as wrong.
    shown = [one for one in shares if one[0] == "hm" and shares[one] >= most / 2] or list(shares)
    name, image_id = max(shown, key=lambda one: (shares[one], -one[1]))
    own, right = heads[image_id][name][0], golden[image_id][name][0]
    label = session.dataset.path(image_id).name
    if name == "hm":
        drawn = [scores_of(card, values).max(axis=0) for values in (right, own)]
        return Maps("hm, highest score over the classes", label, heat_maps(*drawn))
    channel = int(np.abs(own - right).max(axis=(1, 2)).argmax())
    return Maps(f"{name}, channel {channel}", label, heat_maps(right[channel], own[channel]))


def _share(own: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Return the largest difference of a head as a share of the spread of the reference's values."""
    apart = float(np.abs(own.astype(np.float64) - right).max())
    return apart / (float(right.std(dtype=np.float64)) or 1.0)
