"""`diagnose`: the first layer that a device computes wrongly."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Model, Weights, chosen_dataset
from harness.cli.progress import signs_of_life
from harness.errors import HarnessError
from harness.files import check_output_folder
from harness.files.temporary import TemporaryFolder
from harness.report.escape import printable

if TYPE_CHECKING:
    from harness.checks.comparison import Comparison
    from harness.divergence.locate import LayerSearch, Located


def diagnose(
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="The port's ONNX; without it, our export.")] = None,
    model: Model = "embedded",
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="Device to run on; 'doctor' lists them.", autocompletion=completion.device),
    ] = "onnxruntime",
    weights: Weights = None,
    coco: Coco = None,
    image: Annotated[int | None, typer.Option(metavar="ID", help="Image to look at; by default the first.")] = None,
    precision: Annotated[str, typer.Option(help="Precision to run at.", autocompletion=completion.precisions)] = "fp32",
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for a small reproduction; it must not exist, or be empty."),
    ] = None,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Put the whole model into the reproduction, too.")
    ] = False,
) -> None:
    """Find the first layer that a device computes wrongly, by running the model cut short, again and again.

    This names a layer, not a mistake. The known mistake that explains a deviation is named by 'pytest -m accuracy' for
    a device, and by 'compare' for files of a port, in the lines that begin with "diagnosis:".

    With --weights, right is what the network computes with them; without, what ONNX Runtime computes of the same ONNX
    on the host, node by node. Ends with status 1 where a layer is wrong.

    Example: python -m harness diagnose --onnx port.onnx --weights port.pth --output reproduction
    """
    from harness.cards import load_model_card
    from harness.centernet.preprocess import preprocess
    from harness.devices.registry import create_device
    from harness.divergence.locate import LayerSearch
    from harness.run.subject import load_subject

    if output is not None:
        check_output_folder(output, "--output")
    card, runner = load_model_card(model), create_device(device)
    runner.check()
    subject, images = load_subject(card, weights, onnx), chosen_dataset(coco)
    if image is not None and image not in images.image_ids:
        raise HarnessError(f"no image has the id {image}", field="--image", remedy=f"such as {images.image_ids[0]}")
    pixels, _ = preprocess(card, images.read_image(images.image_ids[0] if image is None else image))
    with TemporaryFolder() as folder, deviations_end_with_1(), signs_of_life(), closing(runner):
        port = LayerSearch(subject, runner, precision, pixels, Path(folder))
        located, runs = port.locate(whole=with_model)
        where = f"{device} ({runner.card.execution}), {precision}"
        if located is None:
            print(f"no layer is beyond tolerance on {where}, held to {port.reference}: {runs} run")
            return
        _show(located, port, where)
        if subject.module is not None:
            print(
                f"the mistake behind it, if it is a known one, is named by: {_naming_command(model, device, precision)}"
            )
        if output is not None:
            located.reproduction.write(output)
            print(f"reproduction: {printable(output)}")
    raise typer.Exit(1)


def _show(located: Located, port: LayerSearch, where: str) -> None:
    found = located.divergence
    print(printable(f"first layer beyond tolerance: {located.layer} ({', '.join(located.operators)})"))
    print(f"  {printable(found.worst)}")
    print(f"  held to {port.reference}; all that comes before it and is known is right")
    print(f"  found in {found.runs} runs of up to {len(port.graph)} nodes on {where}")
    if located.alone is not None:
        verdict = "right: it is wrong only in company" if located.alone.problem is None else "wrong as well"
        print(f"  alone on the device, fed with what is right: {verdict} ({_figures(located.alone)})")
    host = "right: look at the device" if located.on_host.problem is None else "wrong as well: look at the ONNX"
    print(f"  alone by ONNX Runtime on the host: {host} ({_figures(located.on_host)})")


def _naming_command(model: str, device: str, precision: str) -> str:
    """The command whose diagnosis names mistakes; the files of model and data are given to it as they were here."""
    command = f"pytest -m accuracy --device {device} --precision {precision} --model {model}"
    return f"{command}, with the same --weights, --onnx and --coco"


def _figures(comparison: Comparison) -> str:
    return f"measured {comparison.measured:.3g}, allowed {comparison.allowed:.3g}"
