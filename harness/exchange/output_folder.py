"""A folder of outputs as the heads of images, and the detections of all of them."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError, decode, to_image_space
from harness.centernet.heads import split_outputs
from harness.centernet.preprocess import place
from harness.data.dataset import Dataset, read_instances
from harness.data.detections import Results
from harness.errors import HarnessError
from harness.exchange.layout import ResultFiles, find_results
from harness.exchange.stems import file_stems
from harness.exchange.summary import Summary, find_summary, refuse_stale
from harness.exchange.tensors import (
    Array,
    HeadOrder,
    find_order,
    head_shapes,
    holds_probabilities,
    read_head,
    require_size,
)
from harness.files import is_file
from harness.types import Detections, Heads, Progress

SAMPLES = 4
"""Images by whose content the heads are told apart."""
WORKERS = 2
LOOK_AHEAD = 4
"""Images that are read before they are asked for: what bounds the memory."""


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Outputs that were made elsewhere, checked for names and sizes; values are read when they are asked for.

    Attributes:
        card: The contract of the model.
        dataset: The images.
        layout: Where the files are.
        order: Which is which head.
        summary: Of the run, where ais_bench left one.
    """

    card: ModelCard
    dataset: Dataset
    layout: ResultFiles
    order: HeadOrder
    summary: Summary | None

    @property
    def description(self) -> str:
        """Tool, type and order of the outputs, in one line."""
        found = sorted(self.order.places.items(), key=lambda item: item[1])
        order = ", ".join(f"{head} = output {index}" for head, index in found)
        note = " with six decimals" if self.layout.kind == "txt" else ""
        stale = "" if self.summary else "; no summary.json, so leftovers of an earlier run would not be seen"
        return (
            f"{self.layout.tool}, .{self.layout.kind}{note}, {self.order.dtype}; {order} ({self.order.how}; "
            f"places count from 0){stale}"
        )

    def heads(self, image_id: int) -> Heads:
        """The heads of one image, as a batch of one.

        Raises:
            HarnessError: A file is truncated, or the heatmap holds probabilities where the card says logits.
        """
        dtype = self.order.dtype
        outputs = {
            name: read_head(self.card, head, self.path(image_id, head), dtype)[None]
            for name, head in zip(self.card.output.names, head_shapes(self.card), strict=True)
        }
        heads = split_outputs(self.card, outputs)
        self._check_activation(image_id, heads["hm"])
        return heads

    def path(self, image_id: int, head: str) -> Path:
        """The file of a head, or of all heads where they are concatenated."""
        places = self.order.places
        return self.layout.files[image_id][places.get(head, next(iter(places.values())))]

    def _check_activation(self, image_id: int, hm: Array) -> None:
        probabilities, said = holds_probabilities(hm), self.card.output.hm
        if probabilities != (said == "probability") and np.isfinite(hm).all():
            found = "lie in 0..1: the sigmoid is applied already" if probabilities else "do not lie in 0..1"
            raise HarnessError(
                f"the values of hm {found}, and the card says {said}",
                file=self.path(image_id, "hm"),
                field="output.hm",
                remedy=f'set hm = "{"probability" if probabilities else "logits"}" in the card, or export again',
            )


def open_outputs(card: ModelCard, dataset: Dataset, folder: Path) -> OutputFolder:
    """The outputs of every image of a data set.

    Args:
        card: The contract of the model that was run.
        dataset: The images, or the first of them; outputs of its other images are left alone.
        folder: What came back from the other host.

    Raises:
        HarnessError: Files are missing, double, foreign, left from an earlier run, or not of the card's heads.
    """
    layout = find_results(folder, file_stems(dataset), _all_stems(dataset))
    summary = find_summary(layout.folders[0]) if len(layout.folders) == 1 else None
    files = [path for paths in layout.files.values() for path in paths]
    if summary is not None:
        refuse_stale(summary, files)
    spread = np.linspace(0, len(layout.files) - 1, min(SAMPLES, len(layout.files))).astype(int)
    images = list(layout.files.values())
    order = find_order(card, [images[place] for place in spread])
    for paths in layout.files.values():
        for head, index in order.places.items():
            require_size(card, head, paths[index], order.dtype)
    return OutputFolder(card, dataset, layout, order, summary)


def _all_stems(dataset: Dataset) -> list[str]:
    file = dataset.folder.parent / "annotations" / f"instances_{dataset.folder.name}.json"
    return [PurePath(image.file_name).stem for image in read_instances(file).images] if is_file(file) else []


def detect_outputs(outputs: OutputFolder, progress: Progress | None = None) -> Results:
    """The detections of every image, a few images in memory at a time.

    Raises:
        HarnessError: A file is damaged, or two images have the same outputs.
        NonFiniteHeadError: A head holds NaN or infinity; a note names the file.
    """
    card, dataset, results = outputs.card, outputs.dataset, Results()
    seen: dict[bytes, int] = {}

    def read(image_id: int) -> Detections:
        try:
            return decode(card, outputs.heads(image_id))[0]
        except NonFiniteHeadError as error:
            error.add_note(f"in {outputs.path(image_id, error.head)}")
            raise

    for done, (image_id, found) in enumerate(_ahead(dataset.image_ids, read), start=1):
        if len(found):
            key = hashlib.sha256(found.boxes.tobytes() + found.scores.tobytes()).digest()
            other = seen.setdefault(key, image_id)
            if other != image_id:
                _refuse_copy(outputs, other, image_id)
        results.add(image_id, to_image_space(card, found, place(card, dataset.size(image_id))))
        if progress is not None:
            progress(done, len(dataset))
    return results


def _ahead(image_ids: Sequence[int], read: Callable[[int], Detections]) -> Iterator[tuple[int, Detections]]:
    waiting: deque[tuple[int, Future[Detections]]] = deque()
    remaining = iter(image_ids)
    with ThreadPoolExecutor(WORKERS, "read") as pool:
        try:
            for image_id in itertools.islice(remaining, LOOK_AHEAD):
                waiting.append((image_id, pool.submit(read, image_id)))
            while waiting:
                image_id, future = waiting.popleft()
                yield image_id, future.result()
                for following in itertools.islice(remaining, 1):
                    waiting.append((following, pool.submit(read, following)))
        finally:
            pool.shutdown(cancel_futures=True)


def _refuse_copy(outputs: OutputFolder, first: int, second: int) -> None:
    """Two images with the same detections to the bit are one image, or one of the results is a copy."""
    dataset = outputs.dataset
    if dataset.path(first).read_bytes() != dataset.path(second).read_bytes():
        raise HarnessError(
            f"it holds what {outputs.path(first, 'hm').name} holds, though the images differ: a copy, or what a "
            "device left from the image before",
            file=outputs.path(second, "hm"),
            remedy="run both images again",
        )
