"""`infer`: heads of a device, written as files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Limit, Model, Weights, chosen_dataset
from harness.cli.progress import progress, signs_of_life
from harness.files import check_output_folder
from harness.files.temporary import TemporaryFolder
from harness.report.escape import printable


def infer(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not exist, or be empty.")],
    device: Annotated[str, typer.Option(metavar="NAME", help="Device to run on; 'doctor' lists them.")] = "onnxruntime",
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX to run instead of an export.")] = None,
    coco: Coco = None,
    limit: Limit = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="By default the card's first.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision to run at; by default the first on the device's card.")
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that int8 takes its ranges from.")
    ] = 200,
) -> None:
    """Run every image on a device and write its heads: STEM.npz with hm, wh and reg, and a manifest.json.

    Example: python -m harness infer --device onnxruntime --output heads
    """
    from harness.cards import load_model_card
    from harness.centernet.heads import check_contract
    from harness.data.calibration import Calibration
    from harness.devices.memory import require_batch_memory
    from harness.devices.registry import create_device
    from harness.exchange.heads import write_heads
    from harness.run.subject import load_subject

    check_output_folder(output, "--output")
    card, runner = load_model_card(model), create_device(device)
    runner.check()
    precision = runner.card.precisions[0] if precision is None else precision
    subject, images = load_subject(card, weights, onnx), chosen_dataset(coco, limit)
    size = batch_size or card.batch_sizes[0]
    require_batch_memory(card, size)
    with (
        TemporaryFolder() as folder,
        deviations_end_with_1(),
        signs_of_life(),
        closing(runner),
        progress(f"running on {device}") as report,
    ):
        calibration = Calibration(card, chosen_dataset(coco), calibration_images) if precision == "int8" else None
        exported = subject.exported(runner.card, Path(folder), size, calibration)
        artifact = runner.convert(exported, size, precision)
        check_contract(card, artifact, size, exported.path)
        write_heads(runner, artifact, card, images, size, output, sha256=subject.sha256, progress=report)
    where = f"{device} ({runner.card.execution}), {precision}, batch size {size}"
    print(f"{len(images)} images on {where}: {printable(output)}")
