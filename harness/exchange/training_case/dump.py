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

import json
import os

import numpy as np
import torch


class Dump(object):
    """Arrays of one batch, a file an iteration.

    Args:
        folder: Where to write, such as ``answers/base``; a name of a batch at its end says which one it was.
        precision: "fp32", "fp16" or "bf16": what the layers compute in.
        loss_scale: What the gradients are still multiplied with when `after_backward` is called.
        processes: Number of processes that train together.
    """

    def __init__(self, folder, precision="fp32", loss_scale=1.0, processes=1):
        self.folder = folder
        self.about = {"precision": precision, "loss_scale": float(loss_scale), "processes": int(processes)}
        self.iteration = 0
        self.arrays = {}

    def add(self, name, tensors):
        """Keep tensors, one a level or one an image."""
        for number, tensor in enumerate(tensors):
            self.arrays["%s/%d" % (name, number)] = _array(tensor)

    def after_backward(self, model, losses):
        """Keep the losses by name, and the gradient of each parameter that has one."""
        for name, loss in losses.items():
            self.arrays["loss/" + name] = _array(loss)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self.arrays["gradient/" + _plain(name)] = _array(parameter.grad) / self.about["loss_scale"]

    def after_step(self, model):
        """Keep the parameters, and write the file of this iteration."""
        for name, parameter in model.named_parameters():
            self.arrays["parameter/" + _plain(name)] = _array(parameter)
        about = dict(self.about, iteration=self.iteration, torch=str(torch.__version__))
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder)
        path = os.path.join(self.folder, "iteration%d.npz" % self.iteration)
        partial = path + ".partial"
        with open(partial, "wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **self.arrays)
        os.replace(partial, path)
        self.arrays = {}
        self.iteration += 1


def _plain(name):
    return name[len("module.") :] if name.startswith("module.") else name


def _array(tensor):
    return tensor.detach().float().cpu().numpy()
