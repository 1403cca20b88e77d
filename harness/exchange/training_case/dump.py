"""Writes what a training step gives, for the conformance suite to judge; needs nothing but PyTorch and NumPy.

Copy this file beside your training script. In your loop, for one of the batches that were handed out:

    dump = Dump("answers/base")
    losses = model(batch)
    sum(losses.values()).backward()
    dump.after_backward(model, losses)
    optimizer.step()
    dump.after_step(model)

Whatever else you can reach makes the answer sharper; add it before `after_step`:

    dump.add("features", [p3, p4, p5, p6, p7])
    dump.add("logits", [...])       # heatmap, before its sigmoid, of each level, (N, 1, H, W)
    dump.add("sides", [...])        # left, top, right, bottom in units of the stride, of each level, (N, 4, H, W)
    dump.add("proposals", [boxes_of_image_0, boxes_of_image_1])   # (n, 5) each: x1, y1, x2, y2, score
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Dump:
    """Arrays of one batch, a file an iteration.

    Args:
        folder: Where to write, such as ``answers/base``: its last part is the name of the batch.
        precision: "fp32", "fp16" or "bf16": what the layers compute in.
        loss_scale: What the gradients are still multiplied with when `after_backward` is called.
        processes: Number of processes that train together.
    """

    def __init__(self, folder: str, precision: str = "fp32", loss_scale: float = 1.0, processes: int = 1) -> None:
        self.folder = Path(folder)
        self.about = {"precision": precision, "loss_scale": float(loss_scale), "processes": int(processes)}
        self.loss_scale = np.float32(loss_scale)
        self.iteration = 0
        self.arrays: dict[str, Any] = {}

    def add(self, name: str, tensors: Sequence[Any]) -> None:
        """Keep tensors, one a level or one an image."""
        for number, tensor in enumerate(tensors):
            self.arrays[f"{name}/{number}"] = _array(tensor)

    def after_backward(self, model: Any, losses: Mapping[str, Any]) -> None:
        """Keep the losses by name, and the gradient of each parameter that has one."""
        for name, loss in losses.items():
            self.arrays["loss/" + name] = _array(loss)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self.arrays["gradient/" + _plain(name)] = _array(parameter.grad) / self.loss_scale

    def after_step(self, model: Any) -> None:
        """Keep the parameters, and write."""
        for name, parameter in model.named_parameters():
            self.arrays["parameter/" + _plain(name)] = _array(parameter)
        self.write()

    def idle_step(self, model: Any, optimizer: Any) -> None:
        """Run a fresh optimizer once with zero gradients and a learning rate of 1: nothing but decay moves."""
        for group in optimizer.param_groups:
            group["lr"] = 1.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        self.after_step(model)

    def write(self) -> None:
        """Write what was kept as the file of this iteration."""
        about = dict(self.about, iteration=self.iteration, torch=str(torch.__version__))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"iteration{self.iteration}.npz"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **self.arrays)
        partial.replace(path)
        self.arrays = {}
        self.iteration += 1


def _plain(name: str) -> str:
    return name[len("module.") :] if name.startswith("module.") else name


def _array(tensor: Any) -> Any:
    return tensor.detach().float().cpu().numpy().copy()
