"""Runner of ONNX Runtime."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import onnxruntime

FATAL = 4
"""Level of ONNX Runtime's log. What fails is raised as well, and names of the model in a log could steer a terminal."""


class Loaded:
    """A session, with the names of its input and outputs."""

    __slots__ = ("facts", "input", "outputs", "running", "session")

    def __init__(self, session: Any, input: str, outputs: Tuple[str, ...]) -> None:
        self.session, self.input, self.outputs = session, input, outputs
        self.facts = {"provider": session.get_providers()[0]}
        self.running: Dict[int, Any] = {}


def load(spec: Dict[str, Any]) -> Loaded:
    """Open a session.

    Args:
        spec: ``model`` (path or bytes), ``provider`` and its ``settings``, ``threads`` (0: one a core), ``entries`` of
            the session's configuration, ``optimise`` the graph, names of ``input`` and ``outputs``.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    options.log_severity_level = FATAL
    for name, value in spec["entries"].items():
        options.add_session_config_entry(name, value)
    if not spec["optimise"]:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = [(spec["provider"], dict(spec["settings"]))]
    session = onnxruntime.InferenceSession(spec["model"], options, providers, enable_fallback=0)
    return Loaded(session, spec["input"], tuple(spec["outputs"]))


def run(handle: Loaded, images: Any) -> Dict[str, Any]:
    """Run one batch; the session reads C-contiguous images where they are."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL
    handle.running[id(options)] = options
    try:
        return dict(zip(handle.outputs, handle.session.run(None, {handle.input: images}, options)))
    finally:
        del handle.running[id(options)]


def interrupt(handle: Loaded) -> None:
    """Make every run in progress raise after the operator at which it is; called in another thread than theirs."""
    for options in list(handle.running.values()):
        options.terminate = True


def close(handle: Loaded) -> None:
    """Drop the session, which frees it."""
    handle.session = None
