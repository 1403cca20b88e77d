"""Writes a training case: all that a port needs to answer for one step, and nothing of this project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from harness.cards.centernet2 import load_two_stage_settings
from harness.cards.model import COCO_CATEGORY_IDS
from harness.centernet2.cases import Case, case_model, duplicated_heads, load_case
from harness.centernet2.rungs import SHORT
from harness.errors import HarnessError
from harness.exchange.training_case.read import DUPLICATED
from harness.files import whole_folder
from harness.run.training.session import CASES

ALL_PROPOSALS = 65536
"""Sampled boxes of an image: more than there are, so that none is drawn at random."""
README = """# Training case {model}

A training step of CenterNet2 to run on another device or in another code, and to judge with
`pytest -m training --outputs ANSWERS`.

| what | |
| --- | --- |
| `weights.pth` | parameters by their official names, under `model` |
| `config.json` | keys of detectron2 that differ from CenterNet2_R50_1x.yaml: the network, all proposals, the schedule |
| `CASE/batch.npz` | `image0` (3, h, w) uint8 BGR, `boxes0` (n, 4) x1, y1, x2, y2, `classes0` (n,) from 0, and so on |
| `CASE/*.png`, `CASE/truth.json` | the same as images and annotations in COCO's layout |
| `{duplicated}/heads.npz` | `logits0` to `logits4`, `sides0` to `sides4`: heads for the code that makes proposals |
| `dump.py` | writes the answers; its first lines say how |

Feed each batch as it is: no resizing, no flip. Run three iterations on `base` with the schedule of `config.json`, one
on each other case, each time from `weights.pth`. Run a step of the optimizer without gradients into `ANSWERS/idle`, by
`idle_step`: decay of what should not decay shows there alone. Of `{duplicated}`, add the proposals and call `write`.
"""


def write_training_case(model: str, network: str, folder: Path) -> None:
    """Write the folder, whole or not at all.

    Args:
        model: Name of the model card.
        network: Name of the network in the two-stage settings.
        folder: A new folder.

    Raises:
        HarnessError: The folder is in use, or cannot be written.
    """
    with whole_folder(folder) as partial:
        torch.save({"model": case_model(network).state_dict()}, partial / "weights.pth")
        (partial / "config.json").write_text(json.dumps(_config(network), indent=2) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(README.format(model=model, duplicated=DUPLICATED), encoding="utf-8")
        shutil.copy(Path(__file__).with_name("dump.py"), partial / "dump.py")
        for name in CASES:
            (partial / name).mkdir()
            _write_case(load_case(name), partial / name)
        (partial / DUPLICATED).mkdir()
        heads = duplicated_heads()
        arrays = {f"logits{level}": one.numpy() for level, one in enumerate(heads.logits)}
        arrays |= {f"sides{level}": one.numpy() for level, one in enumerate(heads.sides)}
        np.savez(partial / DUPLICATED / "heads.npz", **arrays)  # type: ignore[arg-type]


def _config(network: str) -> dict[str, Any]:
    """Return detectron2's keys of a network and of the schedule of a case."""
    channels = load_two_stage_settings().network_named(network)
    return {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": channels.stem,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": channels.features,
        "MODEL.RESNETS.WIDTH_PER_GROUP": channels.bottleneck,
        "MODEL.FPN.OUT_CHANNELS": channels.fpn,
        "MODEL.ROI_BOX_HEAD.FC_DIM": channels.fc,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": ALL_PROPOSALS,
        "SOLVER.BASE_LR": SHORT["base_lr"],
        "SOLVER.WARMUP_ITERS": SHORT["warmup_iterations"],
        "SOLVER.WARMUP_FACTOR": SHORT["warmup_factor"],
        "SOLVER.STEPS": SHORT["steps"],
        "SOLVER.MAX_ITER": SHORT["iterations"],
    }


def _write_case(case: Case, folder: Path) -> None:
    arrays: dict[str, Any] = {}
    for number, (image, boxes, classes) in enumerate(zip(*case, strict=True)):
        arrays |= {f"image{number}": image, f"boxes{number}": boxes, f"classes{number}": classes}
    np.savez(folder / "batch.npz", **arrays)
    write_coco(case, folder, folder / "truth.json")


def write_coco(case: Case, folder: Path, annotations_file: Path) -> None:
    """Write a batch as a data set in COCO's layout.

    Args:
        case: The batch.
        folder: Of the images.
        annotations_file: Of the objects, in the categories of COCO.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, boxes, classes) in enumerate(zip(*case, strict=True)):
        name = f"{number:03}.png"
        if not cv2.imwrite(str(folder / name), np.ascontiguousarray(image.transpose(1, 2, 0))):
            raise HarnessError("it cannot be written", file=folder / name, remedy="check the disk")
        images.append({"id": number + 1, "file_name": name, "height": image.shape[1], "width": image.shape[2]})
        for box, class_ in zip(boxes.tolist(), classes.tolist(), strict=True):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": COCO_CATEGORY_IDS[class_],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": id_, "name": str(id_)} for id_ in COCO_CATEGORY_IDS]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    annotations_file.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
