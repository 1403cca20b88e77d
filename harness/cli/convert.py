"""`convert`: a folder that goes to the host with the chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.options import Model, Weights
from harness.cli.progress import signs_of_life
from harness.files import check_output_folder
from harness.files.temporary import TemporaryFolder
from harness.report.escape import printable


def convert(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not exist, or be empty.")],
    device: Annotated[
        str, typer.Option(metavar="NAME", help="ascend310, ascend310p or ascend310b.", autocompletion=completion.device)
    ],
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX to convert instead of an export.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the om.")] = 1,
    soc: Annotated[
        str | None, typer.Option(metavar="NAME", help="As atc has it; by default the one with published figures.")
    ] = None,
    aipp: Annotated[bool, typer.Option("--aipp", help="Let the om normalise uint8 pixels by itself.")] = False,
    atc_option: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="Further option of atc, such as --output_type=FP16.")
    ] = None,
) -> None:
    """Make a folder that can be carried to an Ascend host: model, command line, instructions; the om where atc is here.

    Example: python -m harness convert --model embedded --device ascend310p --batch-size 4 --output carry
    """
    from harness.cards import load_model_card
    from harness.convert.ascend.bundle import choose_soc, write_bundle
    from harness.devices.memory import require_batch_memory
    from harness.devices.registry import create_device
    from harness.run.subject import load_subject

    check_output_folder(output, "--output")
    chip, card = create_device(device).card, load_model_card(model)
    require_batch_memory(card, batch_size)
    chosen, subject = choose_soc(chip, soc), load_subject(card, weights, onnx)
    with TemporaryFolder() as folder, signs_of_life():
        exported = subject.exported(chip, Path(folder), batch_size)
        assert exported.path is not None  # the dialect is a file's
        made = write_bundle(
            card,
            exported.path,
            output,
            chip,
            soc=chosen,
            batch_size=batch_size,
            aipp=aipp,
            options=tuple(atc_option or ()),
        )
    print(f"{card.name} for {chosen}, batch size {batch_size}: {printable(output)}")
    missing = f"no om, since atc is not here: {made.missing}; {output}/README.md"
    print(printable(f"the om is {made.om}" if made.om else missing))
