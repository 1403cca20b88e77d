"""The place of every output is looked at before any work, and nothing but a file or folder of its kind is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.support.command_line import run

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
}


@pytest.mark.parametrize("verb", VERBS)
def test_output_is_refused_before_the_work(tmp_path: Path, verb: str) -> None:
    (option,) = VERBS[verb]
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "none")
    model = [] if verb == "dataset" else ["--model", "none.toml"]  # which would be refused first by the work
    for place in (pipe, link):
        status, out, err = run(*verb.split(), *model, option, place)
        assert (status, out) == (4, "")
        assert err.startswith(f"{place}: {option}: it is ")
        assert "\n  remedy: " in err
    assert pipe.is_fifo()
    assert link.is_symlink()


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
