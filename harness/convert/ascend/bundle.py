"""A folder to carry to the host with the chip: the model, the command that converts it, and instructions."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cards import DeviceCard, ModelCard
from harness.convert.ascend.aipp import aipp_config, pixel_card
from harness.convert.ascend.atc import AtcRequest, arguments, compile_om, find_atc, out_nodes
from harness.convert.ascend.chip import TOOLCHAIN, AscendChip
from harness.errors import HarnessError
from harness.export.ascend_parser import require_readable
from harness.export.load import load_onnx_checked, stated_by
from harness.files import file_sha256, whole_folder

AIPP = "aipp.cfg"
CARD = "card.toml"
SCRIPT = "convert.sh"

README = """\
# {name} for {soc}

Made by centernet-conformance: `python -m harness convert`. `manifest.json` has what this folder was made from.

On the host with the toolkit (CANN), in this folder:

    source /usr/local/Ascend/ascend-toolkit/set_env.sh
    sh {script}

It leaves `{name}.om`. The chip is not needed for that; `npu-smi info` of the host that has it must show {chip}.
On that host, with the files of `python -m harness preprocess --model {card}` in `inputs`:

    python3 -m ais_bench --model {name}.om --input inputs --output result --output_dirname {name} --batchsize {batch}

Speed alone, without images:

    python3 -m ais_bench --model {name}.om --output result --output_dirname {name}-speed --loop 20 --batchsize {batch}

`--batchsize` states the batch of the om ({batch}); it does not change it. Carry `result` back whole, with the
summaries that lie beside its folders, and on the host with the data set:

    python -m harness score --model {card} --device {device} --outputs result/{name} --coco PATH/TO/COCO
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder that was written.

    Attributes:
        folder: The folder.
        om: The om; None if atc is not on this host.
        missing: Reason why there is no om; None if there is one.
    """

    folder: Path
    om: Path | None
    missing: str | None


def choose_soc(device: DeviceCard, soc: str | None) -> str:
    """Choose the name for ATC: the requested one, or the first of the card.

    Raises:
        HarnessError: The device is no Ascend chip, or the name is not one of its names.
    """
    if device.toolchain != TOOLCHAIN:
        raise HarnessError(
            f"device '{device.name}' is no chip of Ascend",
            field="--device",
            remedy="use ascend310, ascend310p or ascend310b; other devices convert what they run by themselves",
        )
    socs = device.vendor_table(AscendChip).socs
    if soc is not None and soc not in socs:
        raise HarnessError(
            f"'{soc}' is no soc of device '{device.name}', and an om runs on no other than its own",
            field="--soc",
            remedy=f"use one of {', '.join(socs)}, or another device",
        )
    return soc or socs[0]


def write_bundle(
    card: ModelCard,
    onnx: Path,
    folder: Path,
    device: DeviceCard,
    *,
    soc: str,
    batch_size: int,
    aipp: bool = False,
    options: tuple[str, ...] = (),
) -> Bundle:
    """Fill a folder, and run atc in it if it is on this host.

    Args:
        card: The contract of the model.
        onnx: The model in the dialect of ATC.
        folder: The folder to make; it must not exist, or be empty.
        device: Card of the chip.
        soc: Value for ``--soc_version``.
        batch_size: Batch size of the om.
        aipp: Let the om normalise: its input is uint8 RGB pixels, which `preprocess` writes by the card in the folder.
        options: Further options of atc.

    Raises:
        HarnessError: The model cannot be converted, atc fails, or the folder is in use.
    """
    name = f"{card.name}-{soc.removeprefix('Ascend').lower()}-bs{batch_size}" + ("-aipp" if aipp else "")
    om, missing = None, None
    require_readable(load_onnx_checked(onnx), onnx)
    with whole_folder(folder) as partial:
        shutil.copyfile(onnx, partial / f"{name}.onnx")
        request = AtcRequest(Path(f"{name}.onnx"), Path(name), soc, batch_size, Path(AIPP) if aipp else None, options)
        command = arguments(replace(request, model=partial / request.model))
        command[1] = f"--model={request.model}"
        (partial / SCRIPT).write_text(f"#!/bin/sh\nset -e\natc {shlex.join(command)}\ntest -s {shlex.quote(name)}.om\n")
        (partial / SCRIPT).chmod(0o755)
        if aipp:
            (partial / AIPP).write_text(aipp_config(card), encoding="ascii")
        (partial / CARD).write_text(to_toml(pixel_card(card) if aipp else card), encoding="utf-8")
        _describe(card, partial, request, device, command)
        try:
            find_atc()
        except HarnessError as error:
            missing = error.cause
        else:
            whole = replace(
                request,
                model=(partial / request.model).absolute(),
                output=(partial / name).absolute(),
                aipp=None if request.aipp is None else (partial / request.aipp).absolute(),
            )
            om = compile_om(whole, partial)
    return Bundle(folder, None if om is None else folder / om.name, missing)


def _describe(card: ModelCard, folder: Path, request: AtcRequest, device: DeviceCard, command: list[str]) -> None:
    name, batch, model = request.output.name, request.batch_size, load_onnx_checked(folder / request.model)
    text = README.format(
        name=name,
        soc=request.soc,
        chip=request.soc.removeprefix("Ascend"),
        script=SCRIPT,
        card=CARD,
        batch=batch,
        device=device.name,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    (given, *_) = stated_by(model).inputs
    content: Mapping[str, object] = {
        "schema": 1,
        "model": card.name,
        "device": device.name,
        "soc": request.soc,
        "batch_size": batch,
        "input": {
            "name": given.name,
            "dtype": "uint8" if request.aipp else given.dtype,
            "aipp": request.aipp is not None,
        },
        "outputs": dict(zip((output.name for output in model.graph.output), out_nodes(model), strict=True)),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "command": ["atc", *command],
        "sha256": {path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def to_toml(card: ModelCard) -> str:
    """Write a model card as TOML that `load_model_card` reads."""
    plain = card.model_dump(mode="json", exclude_none=True)
    tables = {key: value for key, value in plain.items() if isinstance(value, dict)}
    lists = {key: value for key, value in plain.items() if isinstance(value, list)}
    records = {key: value for key, value in lists.items() if value and isinstance(value[0], dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items() if key not in {**tables, **records}]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    for name, rows in records.items():
        for row in rows:
            lines += ["", f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in row.items())]
    return "\n".join([*lines, ""])
