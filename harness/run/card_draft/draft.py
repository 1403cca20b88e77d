"""Drafting of a card: what the file states, what its values say, and what reads the best AP on annotated images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cards import COCO_CATEGORY_IDS, ModelCard
from harness.cards.draft import card_text, plain_name
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.report.escape import printable
from harness.run.card_draft.explain import explain
from harness.run.card_draft.findings import Finding
from harness.run.card_draft.port import Port, open_port
from harness.run.card_draft.preparation import Preparation, colours_of
from harness.run.card_draft.reading import Reading, card_of
from harness.run.card_draft.roles import Evidence, Roles, possible_roles
from harness.run.card_draft.search import Best, Trials, planned_images, search
from harness.run.pipeline import batches, run_batches
from harness.run.progress import ShowProgress

LOOKED_AT = 2
"""Images whose outputs are looked at, of every normalisation."""
CLOSE = 0.4
"""Readings of the outputs that are less plausible than the best by no more are tried on images, too."""
MOST_ROLES = 3
LARGE = 0.8
"""Of the grid's side: larger boxes are no boxes in cells of the grid."""
KNOWN_CLASSES = 0.25
"""Plausibility that a number of classes adds which is COCO's, or that of the given data set."""
LEAST_PLAUSIBLE = 1.6
"""Of 3: less is no CenterNet."""
LEAST_AP = 0.01
"""An AP below, as a fraction, says that nothing was read."""
ANY_BATCHES = (1, 4)


@dataclass(frozen=True, slots=True)
class Draft:
    """A card that was drafted.

    Attributes:
        card: The card.
        findings: What stands behind each of its fields.
        text: The card as TOML, with comments.
    """

    card: ModelCard
    findings: tuple[Finding, ...]
    text: str


def draft_card(path: Path, looked_at: Dataset, annotated: Dataset | None, show: ShowProgress) -> Draft:
    """Draft the card of an ONNX.

    Args:
        path: The ONNX.
        looked_at: Images of any kind, of which a few are run to see the values of the outputs.
        annotated: Images with the objects that the model finds, which preparations are tried on; None for none.
        show: Shows the progress.

    Raises:
        HarnessError: It is no ONNX, cannot be run, is no CenterNet, or one that no card can describe.
    """
    with open_port(path) as port:
        evidence = Evidence(tuple(possible_roles(port.heads)))
        ways = colours_of(port)
        with show("looking at the outputs") as progress:
            for number, preparation in enumerate(ways, start=1):
                _look(port, preparation, looked_at, evidence)
                progress(number, len(ways))
        roles = _plausible_roles(port, evidence, annotated)
        reading = _plausible_reading(evidence, roles[0])
        categories, why_not = _categories(roles[0].classes, annotated)
        best = None
        if annotated is not None and why_not is None:
            best = _searched(port, annotated, categories, reading, roles, show)
        found = best is not None and best.ap >= LEAST_AP
        preparation = best.preparation if best is not None and found else ways[0]
        reading = best.reading if best is not None and found else reading
        bare = card_of(port, preparation, reading, categories)
        findings = explain(port, evidence, reading, preparation, best if found else None, _doubt(best, why_not))
        return _draft(path, port, bare, findings)


def _look(port: Port, preparation: Preparation, dataset: Dataset, evidence: Evidence) -> None:
    """Run a few images, and keep what their outputs say."""
    card = card_of(port, preparation, Reading(evidence.readings[0], "logits"), _numbered(evidence.readings[0].classes))
    for batch, outputs, _ in run_batches(
        port.device, port.artifact, batches(card, dataset, port.slots, dataset.image_ids[:LOOKED_AT])
    ):
        evidence.take(outputs, len(batch.image_ids))


def _plausible_roles(port: Port, evidence: Evidence, annotated: Dataset | None) -> tuple[Roles, ...]:
    """The readings of the outputs that the values speak for, best first, all with as many classes as the first.

    Raises:
        HarnessError: No reading is plausible, or only one that no card can say.
    """
    known = {len(COCO_CATEGORY_IDS)} | (set() if annotated is None else {len(annotated.instances.categories)})
    # Of two outputs that hold the same, as logits and as probability, logits tell more.
    ranked = [
        (roles, plausible + KNOWN_CLASSES * (roles.classes in known), evidence.batches and evidence.holds_logits(roles))
        for roles, plausible in evidence.ranked()
    ]
    ranked.sort(key=lambda item: (-round(item[1], 3), not item[2]))
    first, plausible, _ = ranked[0]
    if not evidence.batches or plausible < LEAST_PLAUSIBLE:
        raise HarnessError(
            "this is no CenterNet that the suite knows: no output looks like a heatmap beside boxes "
            f"({', '.join(f'{name!r} of {count} channels' for name, count in port.heads.items())})"
            + ("" if evidence.batches else "; every output held NaN or infinity"),
            file=port.path,
            field="--onnx",
            remedy="give the ONNX of a CenterNet, with its heads as outputs",
        )
    if first.mixed:
        raise HarnessError(
            f"wh and reg lie together in '{dict(first.blocks)['wh'].tensor}', and hm in another output: no card can "
            "say that",
            file=port.path,
            field="--onnx",
            remedy="export the heads as one output each, or all of them as one",
        )
    close = [
        roles
        for roles, value, _ in ranked
        if value >= plausible - CLOSE and not roles.mixed and _same_heatmap(roles, first)
    ]
    return tuple(close[:MOST_ROLES])


def _same_heatmap(roles: Roles, first: Roles) -> bool:
    return dict(roles.blocks)["hm"] == dict(first.blocks)["hm"]


def _plausible_reading(evidence: Evidence, roles: Roles) -> Reading:
    sizes = sorted(evidence.sizes[roles])
    large = sizes[len(sizes) // 2] > LARGE
    return Reading(roles, "logits" if evidence.holds_logits(roles) else "probability", "input" if large else "grid")


def _numbered(classes: int) -> tuple[int, ...]:
    return tuple(range(1, classes + 1))


def _categories(classes: int, annotated: Dataset | None) -> tuple[tuple[int, ...], str | None]:
    """The categories of the channels, and why no AP can be read with them, if so."""
    coco = COCO_CATEGORY_IDS if classes == len(COCO_CATEGORY_IDS) else None
    if annotated is None:
        return coco or _numbered(classes), "no annotated images were given (--coco)"
    theirs = tuple(sorted(category.id for category in annotated.instances.categories))
    if coco is not None and set(coco) <= set(theirs):
        return coco, None
    if len(theirs) == classes:
        return theirs, None
    return coco or _numbered(classes), f"the heatmap has {classes} classes, and the data set {len(theirs)} categories"


def _searched(
    port: Port,
    annotated: Dataset,
    categories: tuple[int, ...],
    reading: Reading,
    roles: tuple[Roles, ...],
    show: ShowProgress,
) -> Best:
    with_objects = {annotation.image_id for annotation in annotated.instances.annotations if not annotation.iscrowd}
    if not with_objects:
        raise HarnessError(
            f"no object is annotated in the {len(annotated)} images, so there is no AP to go by",
            file=annotated.folder,
            field="--coco",
            remedy="give images with annotated objects, more of them, or leave --coco out",
        )
    images = annotated.of(with_objects)
    with show("trying preparations") as progress:
        trials = Trials(port, images, categories, progress, planned_images(port, len(images)))
        return search(trials, reading, roles)


def _doubt(best: Best | None, why_not: str | None) -> str:
    if best is not None:
        return f"no way that was tried reads anything in {best.images} images (best AP {best.ap:.3f})"
    return why_not or ""


def _draft(path: Path, port: Port, bare: ModelCard, findings: Sequence[Finding]) -> Draft:
    stem = printable(path.name)
    sizes: tuple[int, ...] = bare.batch_sizes
    if port.batch is None and not bare.input.keep_res:
        sizes = ANY_BATCHES if port.takes(ANY_BATCHES[-1]) else (1,)
    card = ModelCard.model_validate(
        bare.model_dump()
        | {
            "name": plain_name(path.stem),
            "description": f"draft of {stem}: to be checked, see the comments",
            "source": f"drafted from {stem}",
            "batch_sizes": sizes,
        }
    )
    heading = (
        f"Draft of a model card, made from {stem}.\n"
        "A comment above a field says what the file does not say, and how the value was found; check each.\n"
        f"Then: pytest -m accuracy --model CARD.toml --onnx {stem} --coco ROOT"
    )
    doubts = [f"{one.field}: {one.value}: {one.comment}" for one in findings if one.field == "port" and one.comment]
    comments = {one.field: one.comment for one in findings if one.comment and one.field != "port"}
    return Draft(card, tuple(findings), card_text(card, comments, "\n".join([heading, *doubts])))
