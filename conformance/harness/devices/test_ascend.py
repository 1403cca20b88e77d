"""Ascend's chips through stand-ins for atc and the runtimes: found or said to be missing, fed and read right."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance.support.stand_ins import cann as stand_in_cann
from conformance.support.stand_ins.ascend_runtimes import Acl, InferSession, module
from conformance.support.tiny import TinySetup
from harness.centernet.heads import check_contract
from harness.convert.ascend.npu_smi import find_npus
from harness.devices import ascend_runtimes as runtimes
from harness.devices.artifact import Artifact, Exported
from harness.devices.ascend import AscendDevice
from harness.devices.ascend_runtimes import Runtime, find_runtime
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.registry import create_device
from harness.devices.runners import acl as acl_runner
from harness.errors import HarnessError
from harness.types import Float32, Outputs

Prepare = Callable[[pytest.MonkeyPatch], None]
"""Puts one runtime on the host."""


@pytest.fixture
def images(tiny: TinySetup) -> Float32:
    return np.random.default_rng(3).standard_normal((2, 3, 64, 64)).astype(np.float32)


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aclruntime", module("aclruntime"))
    monkeypatch.setitem(sys.modules, "ais_bench", module("ais_bench", {"__path__": []}))
    monkeypatch.setitem(sys.modules, "ais_bench.infer", module("ais_bench.infer", {"__path__": []}))
    interface = module("ais_bench.infer.interface", {"InferSession": InferSession})
    monkeypatch.setitem(sys.modules, "ais_bench.infer.interface", interface)


FAKE = Acl()


def with_acl(monkeypatch: pytest.MonkeyPatch, fake: Acl = FAKE) -> None:
    acl = module("acl")
    for name in ("init", "finalize", "create_data_buffer", "destroy_data_buffer", "rt", "mdl"):
        setattr(acl, name, getattr(fake, name))
    monkeypatch.setitem(sys.modules, "acl", acl)


def on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(os.environ["PYTHONPATH"])


def without_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Msit and benchmark.x86_64 are programs, which are there."""


def expected(exported: Exported, images: Float32) -> Outputs:
    device = OnnxRuntimeDevice()
    return device.run(device.convert(replace(exported, dialect="standard"), len(images), "fp32"), images)


def assert_same(found: Outputs, wanted: Outputs) -> None:
    assert list(found) == list(wanted) == ["hm", "wh", "reg"]
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("prepare", "runtime"),
    [
        (in_process, runtimes.AIS_BENCH),
        (with_acl, runtimes.PY_ACL),
        (on_the_command_line, runtimes.AIS_BENCH_COMMAND),
        (without_anything, runtimes.AIS_BENCH_COMMAND),
    ],
    ids=["ais_bench", "pyACL", "python -m ais_bench", "msit"],
)
def test_every_runtime_gives_the_outputs_of_the_graph(
    host: Path, exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch, prepare: Prepare, runtime: Runtime
) -> None:
    prepare(monkeypatch)
    assert find_runtime() is runtime
    device = create_device("ascend310p")
    device.check()
    artifact = device.convert(exported, 2, "fp16")
    check_contract(exported.card, artifact, 2)
    assert (artifact.executed["chip"], artifact.executed["runtime"]) == ("Ascend310P3", runtime.name)
    assert "stand-ins" in artifact.executed["atc"]
    assert_same(device.run(artifact, images), expected(exported, images))


def test_benchmark_runs_where_nothing_else_is_there(host: Path, exported: Exported, images: Float32) -> None:
    (host / "stand-ins" / "bin" / "msit").unlink()
    assert find_runtime() is runtimes.BENCHMARK_COMMAND
    device = create_device("ascend310p")
    assert_same(device.run(device.convert(exported, 2, "fp16"), images), expected(exported, images))


def test_arrays_that_are_not_contiguous_arrive_as_they_are_indexed(
    host: Path, exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    device = create_device("ascend310p")
    artifact = device.convert(exported, 2, "fp16")
    view = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not view.flags.c_contiguous
    session = InferSession(0, str(next((host.parent / "cache" / "om").glob("*/model.om"))))
    assert not np.allclose(session.infer([view])[0], expected(exported, images)["hm"], atol=0.1)  # the trap is there
    assert_same(device.run(artifact, view), expected(exported, images))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("prepare", [in_process, with_acl])
@pytest.mark.parametrize(("dtype", "slots"), [("float16", 2), ("uint8", 2), ("float32", 1)])
def test_batch_of_other_bytes_than_the_oms_is_refused(
    exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch, prepare: Prepare, dtype: str, slots: int
) -> None:
    prepare(monkeypatch)
    device = create_device("ascend310p")
    artifact = device.convert(exported, 2, "fp16")
    with pytest.raises(HarnessError, match=rf"the om takes 98304 bytes and the batch has \d+ \({dtype}"):
        device.run(artifact, images[:slots].astype(dtype))


def test_outputs_in_another_order_are_found_by_the_names_of_the_om(
    host: Path, exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    monkeypatch.setattr(InferSession, "reversed_outputs", True)
    device = create_device("ascend310p")
    assert_same(device.run(device.convert(exported, 2, "fp16"), images), expected(exported, images))


def test_host_without_anything_is_told_all_that_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    for name in ("ascend310", "ascend310p", "ascend310b"):
        with pytest.raises(HarnessError) as caught:
            create_device(name).check()
        for part in (
            f"device '{name}' cannot run here",
            "no atc on the PATH, and ASCEND_TOOLKIT_HOME is not set",
            "neither ais_bench, pyACL (acl), msit nor benchmark.x86_64 is here",
            "no npu-smi on the PATH",
            f"--device {name}:emulated",
            "--outputs",
        ):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    ("shown", "message"),
    [("310", "npu-smi shows 310, and no Ascend310P3"), ("310B", "'310B', and --soc_version needs the digit")],
)
def test_host_with_another_chip_is_told_so(
    host: Path, monkeypatch: pytest.MonkeyPatch, shown: str, message: str
) -> None:
    monkeypatch.setenv(stand_in_cann.CHIP, shown)
    with pytest.raises(HarnessError, match=message):
        create_device("ascend310p").check()
    assert [npu.name for npu in find_npus()] == [shown]


@pytest.mark.parametrize("prepare", [in_process, on_the_command_line])
def test_om_for_another_chip_is_refused_with_the_codes_explained(
    host: Path, exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    prepare(monkeypatch)
    device = AscendDevice("ascend310p")
    artifact = device.convert(exported, 2, "fp16")
    om = next((host.parent / "cache" / "om").glob("*/model.om"))
    monkeypatch.setenv(stand_in_cann.CHIP, "310P1")  # the om in the cache is exchanged for that of the other

    def use() -> Artifact | Outputs:
        if prepare is in_process:
            device.load(runtimes.AIS_BENCH, om, 0, artifact.outputs)
        return device.run(artifact, images)

    with pytest.raises(HarnessError, match=r"500002: the om cannot be loaded: made for another chip"):
        use()


def test_closing_the_device_frees_all_that_pyacl_gave_in_reverse(
    host: Path, exported: Exported, images: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Acl()
    with_acl(monkeypatch, fake)
    monkeypatch.setattr(acl_runner, "_loaded", [])  # of other tests
    device = create_device("ascend310p")
    both = [device.convert(exported, size, "fp16") for size in (2, 1)]
    fake.calls.clear()
    for artifact, count in zip(both, (2, 1), strict=True):  # each in its own context
        device.run(artifact, images[:count])
    assert fake.calls.count("set_context") == 2
    fake.calls.clear()
    device.close()
    device.close()
    assert fake.memory == {}
    one = [*["destroy_data_buffer", "free"] * 3, "destroy_dataset", "destroy_data_buffer", "free", "destroy_dataset"]
    one = ["set_context", *one, "destroy_desc", "unload", "destroy_context", "reset_device"]
    assert fake.calls == [*one, *one, "finalize"]
    fake.fails["get_desc"] = 507033
    with pytest.raises(HarnessError, match=r"acl\.mdl\.get_desc returned 507033: the device cannot be opened"):
        device.convert(exported, 1, "fp16")
    assert (fake.memory, fake.calls[-1]) == ({}, "finalize")


def test_call_of_pyacl_that_fails_is_named_with_what_its_status_means(
    host: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAKE.fails, "load_from_file", 500002)
    with_acl(monkeypatch)
    with pytest.raises(HarnessError, match=r"acl\.mdl\.load_from_file returned 500002: the om cannot be loaded"):
        create_device("ascend310p").convert(exported, 1, "fp16")


def test_conversion_is_cached_by_its_content(host: Path, exported: Exported) -> None:
    device = create_device("ascend310p")
    for size, kept in ((2, 1), (2, 1), (1, 2)):
        device.convert(exported, size, "fp16")
        assert len(list((host.parent / "cache" / "om").glob("*/model.om"))) == kept
