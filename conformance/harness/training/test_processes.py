"""Processes that train together: what cannot be is refused before they start, and one that dies ends them all."""

import pytest

from harness.errors import HarnessError
from harness.training import devices, processes
from harness.training.processes import Processes

DIES = """
import os, sys, time, torch
from harness.errors import HarnessError
from harness.training.processes import from_environment, joined
own = from_environment()
try:
    with joined(own, torch.device("cpu")):
        own.average(torch.ones(1))
        if own.rank == 1:
            os._exit(7)
        own.average(torch.ones(1))
except HarnessError as error:
    print("told:", error, file=sys.stderr, flush=True)
    time.sleep(2)
    sys.exit(4)
"""


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices.TorchDevice("cuda")
    monkeypatch.setattr(device, "count", lambda: 1)
    processes.require_devices(device, 1)
    with pytest.raises(HarnessError, match="2 processes, and this host has 1 of device 'cuda'"):
        processes.require_devices(device, 2)


def test_batch_that_cannot_be_shared_is_refused() -> None:
    processes.require_shares(4, 2)
    with pytest.raises(HarnessError, match="a batch of 4 images cannot be shared by 3 processes"):
        processes.require_shares(4, 3)


def test_processes_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.from_environment() is None
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(HarnessError, match="not all that torchrun sets: 'LOCAL_WORLD_SIZE'"):
        processes.from_environment()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert processes.from_environment() == Processes(5, 8, 1, 4)


def test_process_that_dies_is_named_and_the_others_say_that_they_cannot_go_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(HarnessError, match="process 1 of 2 ended with status 7, and the training with it"):
        processes.launch(2, ["-c", DIES])
    said = capfd.readouterr().err
    assert "told: --processes: another process of the training has ended, and this one cannot go on without it" in said
    assert "Traceback" not in said
