"""The place of every output is looked at before any work, and nothing but a file or folder of its kind is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.support.command_line import run
from conformance.support.tiny import TinySetup

VERBS = {
    "check": ("--results",),
    "compare --detections none.json": ("--results",),
    "preprocess": ("--output",),
    "infer": ("--output",),
    "convert --device ascend310p": ("--output",),
    "diagnose": ("--output",),
    "dataset": ("--output",),
    "train --iterations 1": ("--output",),
    "export": ("--output",),
    "decode --heads none": ("--output",),
    "card --onnx none": ("--output",),
}


@pytest.mark.parametrize("verb", VERBS)
def test_output_is_refused_before_the_work(tmp_path: Path, verb: str) -> None:
    (option,) = VERBS[verb]
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "none")
    model = (
        [] if verb.split()[0] in ("dataset", "card") else ["--model", "none.toml"]
    )  # which would be refused first by the work
    for place in (pipe, link):
        status, out, err = run(*verb.split(), *model, option, place)
        assert (status, out) == (4, "")
        assert err.startswith(f"{place}: {option}: it is ")
        assert "\n  remedy: " in err
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_file_that_is_no_earlier_output_is_not_replaced(tiny: TinySetup, tmp_path: Path) -> None:
    """A file of the user's that is named twice, as what is read and as what is written."""
    given = {"--model": tiny.card, "--weights": tiny.weights}
    mine = {option: tmp_path / path.name for option, path in given.items()}
    heads, coco = tmp_path / "heads", tiny.coco / "annotations" / "instances_val2017.json"
    for option, path in mine.items():
        path.write_bytes(given[option].read_bytes())
    model = [part for option, path in mine.items() for part in (option, path)]
    before = {path: path.read_bytes() for path in (*mine.values(), coco)}
    for place in before:
        for verb, option in ((("check", *model, "--coco", tiny.coco), "--results"), (("export", *model), "--output")):
            if (verb[0], place) != ("export", coco):
                status, _, err = run(*verb, option, place)
                assert (status, place.read_bytes()) == (4, before[place])
                assert f"{place}: {option}: " in err
        status, _, err = run("decode", *model[:2], "--heads", heads, "--output", place)
        assert (status, place.read_bytes()) == (4, before[place])
        assert "the file that is there is not a list of detections, and is not replaced" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--batch-sizes 1000000", "--batch-sizes: '1000000' is no list of different batch sizes"),
        ("--batch-sizes 99999999999999999999", "--batch-sizes: "),
        ("--limit 0", "--limit: 0 images"),
        (f"--model {'a' * 5000}", "--model: no model card named"),
        (f"--weights {'a' * 5000}", "cannot read the weights: File name too long"),
        ("--device x\x1b[2J", r"--device: no device named 'x\x1b[2J'"),
    ],
    ids=lambda value: ascii(value)[:26],
)
def test_options_out_of_range_are_errors(arguments: str, said: str) -> None:
    status, _, err = run("check", *arguments.split())
    assert status == 4
    assert said in err
    assert err.isprintable() or "\x1b" not in err
