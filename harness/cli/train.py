"""`train`: weights of a card, from a data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cards.model import LARGEST_BATCH
from harness.cli import completion
from harness.cli.options import Coco, Model, chosen_dataset
from harness.cli.progress import progress
from harness.errors import HarnessError
from harness.files import check_output, check_output_folder
from harness.report.escape import printable

if TYPE_CHECKING:
    from harness.cards.two_stage import TwoStageCard
    from harness.training.loop import Iteration

ONE_STAGE = ("crop", "learning_rate", "overlap", "bfloat16")
TWO_STAGE = ("recipe", "device", "precision", "loss_scale", "processes", "weights", "fixed_shape")
"""Options of one family alone; an option that would change nothing is refused."""


def train(
    context: typer.Context,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the checkpoint and the weights.")],
    iterations: Annotated[int, typer.Option(min=1, max=10**9, help="Batches to train on.")],
    model: Model = "embedded",
    coco: Coco = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "train2017",
    batch_size: Annotated[
        int, typer.Option(min=1, max=LARGEST_BATCH, help="Images in a batch; CenterNet2: by default the recipe's.")
    ] = 16,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels of the network input.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Highest rate, after warm-up.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Source of weights, crops and order.")] = 0,
    overlap: Annotated[float, typer.Option(min=0.1, max=0.9, help="IoU that sets how wide peaks are drawn.")] = 0.7,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Convolve in bfloat16.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Write convolution weights in float16.")] = False,
    recipe: Annotated[
        str, typer.Option(metavar="CARD", help="CenterNet2: recipe card, a name or a .toml file.")
    ] = "centernet2_1x",
    device: Annotated[str, typer.Option(metavar="NAME", help="CenterNet2: device that trains.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="CenterNet2: fp32, bf16 or fp16 of the layers.", autocompletion=completion.precisions)
    ] = "fp32",
    loss_scale: Annotated[
        str | None,
        typer.Option(metavar="S", help="CenterNet2: a number, or 'dynamic', which is the default of fp16."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=1024, help="CenterNet2: processes, started by torchrun.")] = 1,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CenterNet2: checkpoint or backbone to start from.")
    ] = None,
    fixed_shape: Annotated[
        str | None, typer.Option(metavar="H,W", help="CenterNet2: pad every batch to this height and width.")
    ] = None,
) -> None:
    """Train the network of a card; write DIR/last.pth to go on from and DIR/weights.pth to use.

    The same command goes on where an interrupted run was.

    Example: python -m harness train --iterations 5000 --output runs/embedded
    """
    check_output_folder(output, "--output", in_use=True)
    for name in ("last.pth", "weights.pth"):
        check_output(output / name, "--output")
    from harness.cards.two_stage import TwoStageCard, load_card

    given = {name for name in context.params if _on_command_line(context, name)}
    card = load_card(model)
    if isinstance(card, TwoStageCard):
        _refuse(given, ONE_STAGE, model)
        _train_two_stage(context, given, card)
        return
    _refuse(given, TWO_STAGE, model)

    from harness.centernet.training import Settings
    from harness.centernet.training import train as run_training
    from harness.training.checkpoint import save_weights
    from harness.training.weights import read_state_dict

    own = Settings(iterations, batch_size, crop, learning_rate, seed, overlap, bfloat16)
    images = chosen_dataset(coco, split=split)
    with progress("training") as report:
        checkpoint = run_training(
            card,
            images,
            own,
            output,
            report=lambda done, losses: report(done, iterations, f"loss {losses['total']:.3f}"),
        )
    save_weights(read_state_dict(checkpoint), output / "weights.pth", half=half)
    print(printable(output / "weights.pth"))


def _train_two_stage(context: typer.Context, given: set[str], card: TwoStageCard) -> None:
    """Train a CenterNet2 by the options of the command."""
    from harness.centernet2.run import Request, run

    options = context.params
    iterations: int = options["iterations"]
    request = Request(
        network=card.network,
        category_ids=card.category_ids,
        batch_size=options["batch_size"] if "batch_size" in given else None,
        **{name: options[name] for name in (*TWO_STAGE, "iterations", "seed", "output")},
    )
    dataset = chosen_dataset(options["coco"], split=options["split"])
    arguments = _arguments(context, given)
    with progress("training") as report:

        def observed(one: Iteration) -> None:
            report(one.done, iterations, f"loss {one.losses['total']:.3f}")

        path = run(request, dataset, arguments, [observed], half=options["half"])
    if path is not None:
        print(printable(path))


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse(given: set[str], names: Iterable[str], model: str) -> None:
    """Refuse options that mean nothing to the model."""
    for name in names:
        if name in given:
            option = f"--{name.replace('_', '-')}"
            cause = f"the training of '{model}' has no such option"
            raise HarnessError(cause, field=option, remedy="leave it out, or give another --model")


def _arguments(context: typer.Context, given: set[str]) -> list[str]:
    """Return the arguments of Python that repeat this command in another process."""
    arguments = ["-m", "harness", "train"]
    for name in sorted(given - {"processes"}):
        value, option = context.params[name], f"--{name.replace('_', '-')}"
        arguments += [option] if value is True else [f"{option}={value}"]
    return arguments
