"""Files of a port in which no output of an image is judged do not conform."""

from pathlib import Path

import pytest

from conformance.catalogue.adequacy import example_log
from conformance.support.command_line import run
from conformance.support.tiny import TinySetup
from harness.data.dataset import Dataset
from harness.exchange.inputs import write_inputs

pytestmark = pytest.mark.attacks


@pytest.fixture
def inputs(tiny: TinySetup, tmp_path: Path) -> Path:
    write_inputs(tiny.model_card, two(tiny), tmp_path / "inputs")
    return tmp_path / "inputs"


@pytest.fixture
def speed(tmp_path: Path) -> Path:
    file = tmp_path / "speed.json"
    file.write_text(example_log().model_dump_json())
    return file


def two(tiny: TinySetup) -> Dataset:
    return tiny.dataset.first(2)


def compare(tiny: TinySetup, **files: Path) -> tuple[int, list[str]]:
    options = {"model": tiny.card, "weights": tiny.weights, "coco": tiny.coco, "limit": 2, **files}
    status, out, err = run("compare", *(part for name, value in options.items() for part in (f"--{name}", str(value))))
    return status, (err + out).splitlines()


def test_speed_log_alone_measures_and_judges_no_image(tiny: TinySetup, speed: Path) -> None:
    status, lines = compare(tiny, speed=speed)
    assert (status, lines[-1]) == (0, "verdict: measured, outputs of no image were judged")


@pytest.mark.parametrize("with_speed", [False, True])
def test_inputs_without_outputs_are_incomplete(tiny: TinySetup, inputs: Path, speed: Path, *, with_speed: bool) -> None:
    status, lines = compare(tiny, inputs=inputs, **({"speed": speed} if with_speed else {}))
    assert (status, lines[-1]) == (1, "verdict: incomplete, outputs of no image were judged")
    assert lines[-2].startswith("problem: not given: heads, detections, accuracy; ")


def test_wrong_inputs_without_outputs_deviate(tiny: TinySetup, inputs: Path) -> None:
    for file in inputs.iterdir():
        file.write_bytes(bytes(len(file.read_bytes())))
    status, lines = compare(tiny, inputs=inputs)
    assert (status, lines[-1]) == (1, "verdict: deviates, outputs of no image were judged")
