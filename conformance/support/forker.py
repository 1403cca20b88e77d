"""Runs pytest or another module once for each line of standard input, each in a process of its own.

The processes are forked from this one, which has large libraries loaded and nothing of pytest or of the suite: a run
starts in a fraction of a second and is otherwise one from the command line. ONNX Runtime is not among the libraries: it
starts a thread when it is imported, and a forked process would wait for it in vain.

A line is a JSON object: ``module``, ``arguments``, ``environment``, ``path`` (folders put on the module path),
``output`` (the file that takes what is printed), ``bytecode`` (a folder for compiled modules where Python is told to
write none: pytest would compile the suite anew in every run). The answer is a line with the exit status.
"""

import gc
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2  # noqa: F401
import faster_coco_eval  # noqa: F401
import onnx  # noqa: F401
import onnxscript  # noqa: F401
import pydantic  # noqa: F401
import torch
import torchvision  # noqa: F401
from pycocotools import cocoeval  # noqa: F401


def start(request: dict[str, Any]) -> int:
    """Become the run that was asked for, and return its exit status."""
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(request["output"], os.O_WRONLY | os.O_CREAT)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(request["environment"])
    # Where this file lies is on the path of a script; it is not on that of `python -m pytest`.
    sys.path[:1] = [str(Path.cwd()), *request["path"]]
    sys.argv = [request["module"], *request["arguments"]]
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode, sys.pycache_prefix = False, request["bytecode"]
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # a collection in a forked process would copy all of the memory that they share
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = start(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # taking the libraries down takes longer than the run
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)
