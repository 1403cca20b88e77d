"""`infer`: heads of a device, or the detections of a two-stage detector, written as files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Limit, Model, Weights, chosen_dataset
from harness.cli.progress import progress, signs_of_life
from harness.files import check_output_folder
from harness.files.temporary import TemporaryFolder
from harness.report.escape import printable


def infer(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not exist, or be empty.")],
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="By default onnxruntime, or torch for a model of two stages.",
            autocompletion=completion.device,
        ),
    ] = None,
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX to run instead of an export.")] = None,
    coco: Coco = None,
    limit: Limit = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="By default the card's first.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision to run at; by default the first on the device's card.", autocompletion=completion.precisions
        ),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that int8 takes its ranges from.")
    ] = 200,
) -> None:
    """Run every image on a device and write its heads: STEM.npz with hm, wh and reg, and a manifest.json.

    Of a two-stage detector, which has no heads, detections.json is written in their place, as 'score' reads it.

    Example: python -m harness infer --device onnxruntime --output heads
    Example: python -m harness infer --model centernet2_r50 --weights FILE.pth --coco ROOT --output detected
    """
    from harness.cards import TwoStageCard, load_card, require_one_stage
    from harness.centernet.heads import check_contract
    from harness.data.calibration import Calibration
    from harness.devices.memory import require_batch_memory
    from harness.devices.registry import create_device
    from harness.exchange.heads import write_heads
    from harness.exchange.two_stage import write_detections
    from harness.run.two_stage import load_any_subject

    check_output_folder(output, "--output")
    card = load_card(model)
    if device is None:
        device = "torch" if isinstance(card, TwoStageCard) else "onnxruntime"
    runner = create_device(device)
    runner.check()
    precision = runner.card.precisions[0] if precision is None else precision
    subject, images = load_any_subject(card, weights, onnx), chosen_dataset(coco, limit)
    size = batch_size or card.batch_sizes[0]
    require_batch_memory(card, size)
    with (
        TemporaryFolder() as folder,
        deviations_end_with_1(),
        signs_of_life(),
        closing(runner),
        progress(f"running on {device}") as report,
    ):
        calibration = None
        if precision == "int8":
            calibration = Calibration(require_one_stage(card), chosen_dataset(coco), calibration_images)
        exported = subject.exported(runner.card, Path(folder), size, calibration)
        artifact = runner.convert(exported, size, precision)
        if isinstance(card, TwoStageCard):
            run = (runner, artifact, card, images, size, output)
            write_detections(*run, sha256=subject.sha256, progress=report)
        else:
            check_contract(card, artifact, size, exported.path)
            write_heads(runner, artifact, card, images, size, output, sha256=subject.sha256, progress=report)
    where = f"{device} ({runner.card.execution}), {precision}, batch size {size}"
    print(f"{len(images)} images on {where}: {printable(output)}")
