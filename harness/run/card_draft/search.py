"""Search for the preparation and the reading of the outputs with which a model reads the best AP.

Staged, so that it takes a number of runs that does not multiply: colours on few images, geometries on more, and on all
images only the best and, of every question, the next best answer, whose difference gets an interval.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError
from harness.checks.bootstrap import LEAST_IMAGES, Difference, paired_bootstrap
from harness.checks.evaluate import evaluate
from harness.checks.matching import Matches, match
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.run.card_draft.port import Port
from harness.run.card_draft.preparation import Preparation, colours_of, geometries_of
from harness.run.card_draft.reading import Reading, card_of
from harness.run.card_draft.roles import Roles
from harness.run.family import ONE_STAGE
from harness.run.pipeline import batches, run_batches
from harness.types import Batch, Detections, Outputs, Progress

FEW, SOME = 8, 24
"""Images on which colours, and geometries, are tried."""
ROUNDS = 3
"""Times that the best of all images may change."""
SEED = 0

Way = tuple[Preparation, Reading]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        value: That reads the best AP.
        ap: Of it, a fraction.
        second: The next best value; None where there is no other.
        second_ap: Of it.
        difference: What the second loses against the best, on all images; None where there is no second.
    """

    value: str
    ap: float
    second: str | None = None
    second_ap: float = 0.0
    difference: Difference | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the difference holds no 0."""
        found = self.difference
        return found is None or (found.images >= LEAST_IMAGES and found.low > 0)


@dataclass(frozen=True, slots=True)
class Best:
    """The preparation that reads the best AP, and how sure each part of it is.

    Attributes:
        preparation: Of the images.
        reading: Of the outputs.
        ap: AP on all images, a fraction.
        images: How many there are.
        answers: By question: "order", "pixels", "placement", "unit", "axes", "roles".
    """

    preparation: Preparation
    reading: Reading
    ap: float
    images: int
    answers: dict[str, Answer]


@dataclass
class Trials:
    """Detections of every way that was tried, on the first images of one order; each image is run once a way.

    Attributes:
        port: The model.
        dataset: Images that have objects.
        category_ids: Of the channels of the heatmap.
        progress: Told of the images that were run.
        planned: Images that will be run, for the progress.
        ran: Images that were run.
        results: Detections by way and image; None where they are not finite.
        read: AP by way and number of images.
        matches: Matched detections in all images by way.
    """

    port: Port
    dataset: Dataset
    category_ids: tuple[int, ...]
    progress: Progress
    planned: int
    ran: int = 0
    results: dict[Way, dict[int, Detections | None]] = field(default_factory=dict)
    read: dict[tuple[Way, int], float] = field(default_factory=dict)
    matches: dict[Way, Matches | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = list(self.dataset.image_ids)
        random.Random(SEED).shuffle(ids)
        self.order = tuple(ids)

    def ap(self, way: Way, count: int) -> float:
        """AP on the first `count` images; 0 where heads or boxes are not finite."""
        if (way, count) not in self.read:
            found = self.found(way, count)
            self.read[way, count] = 0.0 if found is None else self._evaluate(found)
        return self.read[way, count]

    def _evaluate(self, found: Results) -> float:
        instances = self.dataset.of(found).instances
        return evaluate(instances, found, self.category_ids, evaluator="faster-coco-eval").AP

    def found(self, way: Way, count: int) -> Results | None:
        """Detections in the first `count` images; None where heads or boxes are not finite."""
        kept, results = self.results.get(way, {}), Results()
        for image_id in self.order[:count]:
            detections = kept[image_id]
            if detections is None:
                return None
            results.add(image_id, detections)
        return results

    def run(self, preparation: Preparation, readings: Sequence[Reading], count: int) -> None:
        """Run the first `count` images, those that are not known by every one of the readings."""
        kept = [self.results.setdefault((preparation, reading), {}) for reading in readings]
        missing = [image_id for image_id in self.order[:count] if any(image_id not in one for one in kept)]
        if not missing:
            return
        cards = [card_of(self.port, preparation, reading, self.category_ids) for reading in readings]
        prepared = batches(cards[0], self.dataset, 1 if preparation.keep_res else self.port.slots, missing)
        for batch, outputs, _ in run_batches(self.port.device, self.port.artifact, prepared):
            for card, one, reading in zip(cards, kept, readings, strict=True):
                one.update(_read(card, reading.oriented(outputs), batch))
            self.ran += len(batch.image_ids)
            self.progress(min(self.ran, self.planned), self.planned)

    def difference(self, best: Way, other: Way) -> Difference | None:
        """Loss of another way against the best on all images; None where either has no finite detections."""
        golden, own = self._matched(best), self._matched(other)
        return None if golden is None or own is None else paired_bootstrap(own, golden)

    def _matched(self, way: Way) -> Matches | None:
        if way not in self.matches:
            found = self.found(way, len(self.order))
            matched = None if found is None else match(self.dataset.instances, found, self.category_ids)
            self.matches[way] = matched
        return self.matches[way]


def _read(card: ModelCard, outputs: Outputs, batch: Batch) -> Iterator[tuple[int, Detections | None]]:
    """Detections of each image of a batch in image pixels; None where they are not finite."""
    heads = ONE_STAGE.read_heads(card, outputs, len(batch.images))
    for slot, (image_id, placement) in enumerate(zip(batch.image_ids, batch.placements, strict=True)):
        try:
            [found] = ONE_STAGE.decode(card, {name: head[slot : slot + 1] for name, head in heads.items()})
        except NonFiniteHeadError:
            yield image_id, None
            continue
        found = ONE_STAGE.to_image_space(card, found, placement)
        yield image_id, found if np.isfinite(found.boxes).all() and np.isfinite(found.scores).all() else None


def planned_images(port: Port, images: int) -> int:
    """About how many images `search` runs."""
    colours = colours_of(port)
    few, some = min(FEW, images), min(SOME, images)
    ways = len(geometries_of(port, colours[0]))
    return len(colours) * few + ways * some + (ways + 3) * images


def search(trials: Trials, reading: Reading, roles: tuple[Roles, ...]) -> Best:
    """Find what reads the best AP.

    Args:
        trials: The model and the images.
        reading: The most plausible one.
        roles: Those that are plausible, the first that of `reading`.
    """
    images = len(trials.order)
    few, some = min(FEW, images), min(SOME, images)
    # A wrong unit or order of the axes reads nothing, whatever the colours.
    first = [replace(one, roles=other) for other in roles for one in reading.forms()]
    colours = colours_of(trials.port)
    for preparation in colours:
        trials.run(preparation, first, few)
    preparation, reading = _best([(one, other) for one in colours for other in first], trials, few)
    geometries = geometries_of(trials.port, preparation)
    for one in geometries:
        trials.run(one, [reading], some)
    preparation, _ = _best([(one, reading) for one in geometries], trials, some)
    best = (preparation, reading)
    rivals = _rivals(trials, best, roles)
    for _ in range(ROUNDS):
        better = _best([best, *rivals.values()], trials, images)
        if better == best:
            break
        best, rivals = better, _rivals(trials, better, roles)
    trials.progress(trials.planned, trials.planned)
    answers = {question: _answer(trials, question, best, rival) for question, rival in rivals.items()}
    return Best(*best, trials.ap(best, images), images, answers)


def _best(ways: Sequence[Way], trials: Trials, count: int) -> Way:
    """The way of the highest AP on the first images; of equals the first."""
    return max(ways, key=lambda way: trials.ap(way, count))


def _rivals(trials: Trials, best: Way, roles: tuple[Roles, ...]) -> dict[str, Way]:
    """The next best answer to every question, all else as it is, each run on all images."""
    images, port = len(trials.order), trials.port
    preparation, reading = best
    others = reading.others_of(roles)
    trials.run(preparation, [reading, *(one for some in others.values() for one in some)], images)
    rivals = {
        name: _best([(preparation, one) for one in some], trials, images) for name, some in others.items() if some
    }
    like = [replace(one, geometry=preparation.geometry, keep_res=preparation.keep_res) for one in colours_of(port)]
    asked = {
        "order": ([one for one in like if one.order != preparation.order and one.pixels == preparation.pixels], FEW),
        "pixels": ([one for one in like if one.order == preparation.order and one.pixels != preparation.pixels], FEW),
        # They lie so close together that each is run on all images.
        "placement": ([one for one in geometries_of(port, preparation) if one != preparation], images),
    }
    for question, (some, count) in asked.items():
        if some:
            for one in some:
                trials.run(one, [reading], min(count, images))
            rival, _ = _best([(one, reading) for one in some], trials, min(count, images))
            trials.run(rival, [reading], images)
            rivals[question] = (rival, reading)
    return rivals


def _answer(trials: Trials, question: str, best: Way, rival: Way) -> Answer:
    images = len(trials.order)
    return Answer(
        _said(question, best),
        trials.ap(best, images),
        _said(question, rival),
        trials.ap(rival, images),
        trials.difference(best, rival),
    )


def _said(question: str, way: Way) -> str:
    """The answer to a question, as a card or a person says it."""
    preparation, reading = way
    return {
        "order": preparation.order,
        "pixels": preparation.pixels.name,
        "placement": preparation.placement,
        "unit": reading.unit,
        "axes": "height before width" if reading.swapped else "width before height",
        "roles": ", ".join(f"{head} {reading.roles.place_of(head)}" for head in reading.roles.heads),
    }[question]
