"""`train`: weights of a card, from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cards.model import LARGEST_BATCH
from harness.cli.options import Coco, Model, chosen_dataset
from harness.cli.progress import progress
from harness.files import check_output, check_output_folder
from harness.report.escape import printable


def train(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the checkpoint and the weights.")],
    iterations: Annotated[int, typer.Option(min=1, max=10**9, help="Batches to train on.")],
    model: Model = "embedded",
    coco: Coco = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "train2017",
    batch_size: Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Crops in a batch.")] = 16,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels of the network input.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Highest rate, after warm-up.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Source of weights, crops and order.")] = 0,
    overlap: Annotated[float, typer.Option(min=0.1, max=0.9, help="IoU that sets how wide peaks are drawn.")] = 0.7,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Convolve in bfloat16.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Write convolution weights in float16.")] = False,
) -> None:
    """Train the network of a card; write DIR/last.pth to go on from and DIR/weights.pth to use.

    The same command goes on where an interrupted run was.

    Example: python -m harness train --iterations 5000 --output runs/embedded
    """
    from harness.cards import load_model_card
    from harness.centernet.training import Settings
    from harness.centernet.training import train as run_training
    from harness.training.checkpoint import save_weights
    from harness.training.weights import read_state_dict

    check_output_folder(output, "--output", in_use=True)
    for name in ("last.pth", "weights.pth"):
        check_output(output / name, "--output")
    card = load_model_card(model)
    settings = Settings(iterations, batch_size, crop, learning_rate, seed, overlap, bfloat16)
    images = chosen_dataset(coco, split=split)
    with progress("training") as report:
        checkpoint = run_training(
            card,
            images,
            settings,
            output,
            report=lambda done, losses: report(done, iterations, f"loss {losses['total']:.3f}"),
        )
    save_weights(read_state_dict(checkpoint), output / "weights.pth", half=half)
    print(printable(output / "weights.pth"))
