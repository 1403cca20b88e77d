"""Weights of CenterNet2: official checkpoints, and backbones by the names that detectron2 or Caffe2 give them.

Nothing in a file is executed. The backbones of detectron2's model zoo (``R-50.pkl``) are pickles of NumPy arrays, and
are refused with the command that converts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from harness.centernet2.model import CenterNet2
from harness.errors import HarnessError
from harness.files import is_file
from harness.training.weights import fill, read_state_dict

BACKBONE = "backbone.bottom_up."
PIXELS = ("pixel_mean", "pixel_std")
"""Entries of older checkpoints, whose values are on the card."""
CLASSIFIER = re.compile(r"(fc1000|fc|pred)[._].*|stem\.fc\..*")
BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
NORMS = {
    "s": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "rm": "running_mean", "running_mean": "running_mean",
    "riv": "running_var", "running_var": "running_var",
}  # fmt: skip
CAFFE2 = re.compile(
    r"(?:conv1|res_conv1|res(?P<stage>\d)_(?P<block>\d+)_branch(?P<branch>1|2[abc]))_(?:bn_(?P<norm>\w+)|w)"
)
CONVERSION = (
    "python -c \"import pickle, sys, torch; found = pickle.load(open(sys.argv[1], 'rb'), encoding='latin1'); "
    "torch.save({k: torch.from_numpy(v) for k, v in found['model'].items()}, sys.argv[2])\" R-50.pkl R-50.pth"
)


def load_weights(model: CenterNet2, path: Path) -> None:
    """Load a checkpoint of the whole model, as the official training writes it.

    The tensors may lie under ``model`` beside the state of a training, and `pixel_mean` and `pixel_std` among them.

    Raises:
        HarnessError: The file is no checkpoint, holds more than tensors and plain data, or is of another network.
    """
    state = {name: tensor for name, tensor in _read(path).items() if name not in PIXELS}
    fill(model, state, path, "check that it is a CenterNet2 with this backbone")


def load_backbone(model: CenterNet2, path: Path) -> None:
    """Load the weights of a ResNet-50 into the backbone, and leave all else as it is.

    Args:
        model: Takes them.
        path: A ``.pth`` of tensors by the names of Caffe2 (``res2_0_branch2a_w``) or of detectron2
            (``res2.0.conv1.weight``, with or without what leads to the backbone); its classifier is left out.

    Raises:
        HarnessError: See `load_weights`.
    """
    own = (BACKBONE, "backbone.", "bottom_up.")
    state = {}
    for name, tensor in _read(path).items():
        for prefix in own:
            name = name.removeprefix(prefix)
        if not CLASSIFIER.fullmatch(name):
            state[from_caffe2(name)] = tensor
    fill(model.backbone.bottom_up, state, path, "give the backbone that the training starts from, R-50 of MSRA")


def load_start(model: CenterNet2, path: Path) -> None:
    """Load what a training starts from: the whole model where the file has its heads, else the backbone.

    Raises:
        HarnessError: See `load_weights`.
    """
    whole = any(name.startswith("roi_heads.") for name in _read(path))
    (load_weights if whole else load_backbone)(model, path)


def from_caffe2(name: str) -> str:
    """Return the official name of an entry of a Caffe2 ResNet; any other name as it is."""
    match = CAFFE2.fullmatch(name)
    if match is None:
        return name
    stage, norm = match["stage"], match["norm"]
    layer = "stem.conv1" if stage is None else f"res{stage}.{match['block']}.{BRANCHES[match['branch']]}"
    if norm is None:
        return f"{layer}.weight"
    return f"{layer}.norm.{NORMS[norm]}" if norm in NORMS else name


def _read(path: Path) -> Mapping[str, Tensor]:
    """Read tensors by name, from under ``model`` where they are there."""
    try:
        return read_state_dict(path, "model")
    except HarnessError as error:
        if path.suffix == ".pkl" and is_file(path):
            cause = "a pickle can run anything, and is not loaded"
            raise HarnessError(cause, file=path, remedy=f"convert it where you trust it: {CONVERSION}") from error
        raise
