"""Command lines with an odd value, an option too many or one too few."""

import shlex
from random import Random

import typer

from harness.cli import app

MODEL = "--model card.toml --coco coco --limit 1"
VERBS = {
    "check": f"check {MODEL} --device torch --weights weights.pth --batch-sizes 1 --results made.json",
    "dataset": "dataset --limit 1 --output made",
    "train": "train --iterations 1 --batch-size 1 --crop 128 --split val2017 --output made --model card.toml "
    "--coco coco",
    "preprocess": f"preprocess {MODEL} --output made",
    "export": "export --model card.toml --weights weights.pth --output made.onnx",
    "convert": "convert --device ascend310p --onnx model.onnx --model card.toml --output made",
    "infer": f"infer {MODEL} --device torch --weights weights.pth --output made",
    "decode": f"decode {MODEL} --heads heads --output made.json",
    "score": f"score {MODEL} --detections rows.json",
    "score-log": "score-log training.log",
    "compare": f"compare {MODEL} --weights weights.pth --detections rows.json --results made.json",
    "card": "card --onnx model.onnx --coco coco --limit 1 --output made.toml",
    "diagnose": "diagnose --model card.toml --coco coco --onnx model.onnx --weights weights.pth",
}
"""A small run of each verb that reads files, in the folder of a mutant. `doctor` is left out: it installs."""

ODD = (
    "", " ", "0", "-1", "nan", "inf", "1e400", str(2**31), str(2**63), str(2**70), "1,1", "1,,2", ",", "x", "x" * 5000,
    "../x", "/proc", ".", "coco", "pipe", "link", "/dev/null", "/dev/full", "/proc/self/mem", "nothing/there",
    "card.toml", "rows.json", "weights.pth", "$(touch canary)", "; touch canary", "\x1b[31m", "sq\nverdict: conforms",
    "é", "\udcff", "[/red]", "--help", "-", "--", "%s", "{0}", "~", "onnxruntime,torch", "ascend310p",
    "bm1684x:emulated", "int8", "fp16", "dynamic", "0x10", "\u0661",
)  # fmt: skip
ENDLESS = {"iterations": 3, "batch_size": 4096, "crop": 1024, "calibration_images": 10**9}
"""Options of which a large number is a long run and no error, and the largest that is tried."""


def odd_arguments(random: Random, verb: str) -> list[str]:
    """The small run of a verb with one option or two given oddly."""
    arguments = shlex.split(VERBS[verb])
    known = [option for option in typer.main.get_command(app).commands[verb].params if option.name != "help"]  # type: ignore[attr-defined]
    for _ in range(random.choice((1, 1, 2))):
        option = random.choice(known)
        name, value = option.opts[0], random.choice(ODD)
        if option.name in ENDLESS and value.isdecimal() and int(value) > ENDLESS[option.name]:
            value = "-1"
        place = arguments.index(name) if name in arguments else None
        kind = random.choice(("value", "value", "value", "value", "gone", "no value", "unknown", "twice"))
        if kind == "gone" and place is not None:
            del arguments[place : place + 1 + (not getattr(option, "is_flag", False))]
        elif kind == "no value":
            arguments.append(name)
        elif kind == "unknown":
            arguments += [f"{name}x", value]
        elif getattr(option, "is_flag", False):
            arguments.append(name)
        else:
            arguments += [f"{name}={value}"] if random.random() < 0.5 else [name, value]
    return arguments
