"""A run in shards, merged, is the run in one piece; shards that are not all those of one run are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.support.suite import CHECKS, Ended, Suite, read_results
from harness.report.records import Document

DEVICES = "right,selective,larger,cured"
"""Right ones, two that are wrong in few images, and one that was to fail and does not."""
MORE = "torch,swapped,nan,fewer,slight,excused"
"""Wrong ones in every stage, which take longer, and one that fails as known."""
SHARDS = 3
"""As many as 11 images at batch sizes 1 and 4 make."""
OF_THE_STORE = ("stored", "reference_stored")


@dataclass(frozen=True)
class InShards:
    """Documents of one run, in one piece and in shards."""

    whole: Document
    folder: Path

    @property
    def shards(self) -> list[Path]:
        return [self.folder / f"{index}.json" for index in range(1, SHARDS + 1)]

    def copied(self, folder: Path) -> list[Path]:
        """The shards in a folder of their own, where they may be damaged."""
        shutil.copytree(self.folder, folder)
        return [folder / path.name for path in self.shards]


@pytest.fixture(scope="session")
def in_shards(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> InShards:
    return run_in_shards(suite, DEVICES, tmp_path_factory.mktemp("shards"))


def run_in_shards(suite: Suite, names: str, folder: Path, *processes: str) -> InShards:
    """Run one shard with pytest, one with `processes` of it, and one with ``check``."""
    devices = f"--device={names}"
    whole = suite.check(devices, suite.known)
    first, second, third = (folder / f"{index}.json" for index in range(1, SHARDS + 1))
    suite.run(devices, suite.known, "--shard=1/3", *CHECKS, results=first)
    suite.run(devices, suite.known, "--shard=2/3", *processes, *CHECKS, results=second)
    suite.run(
        devices, suite.known, "--shard", "3/3", options=("check", *suite.options[2:]), module="harness", results=third
    )
    return InShards(whole.result, folder)


def merge(suite: Suite, shards: list[Path], *arguments: str, results: Path | None = None) -> Ended:
    options = ("merge", *map(str, shards))
    return suite.run(*arguments, options=options, module="harness", results=results)


def comparable(document: Document) -> dict[str, Any]:
    """A document without environment, times, speeds, and what was stored."""
    values = document.model_dump(mode="json")
    del values["environment"]
    for run in values["runs"]:
        del run["perf"]
        for accuracy in run["accuracy"]:
            for name in OF_THE_STORE:
                del accuracy[name]
    return values


def test_merged_shards_are_the_run_in_one_piece(suite: Suite, in_shards: InShards) -> None:
    ended = merge(suite, in_shards.shards[::-1])
    assert comparable(ended.result) == comparable(in_shards.whole)
    assert (ended.status, ended.run_of("right").verdict) == (1, "conforms")
    assert "unexpected pass" in ended.output


@pytest.mark.attacks
def test_merged_shards_of_wrong_devices_are_the_run_in_one_piece(suite: Suite, tmp_path: Path) -> None:
    given = run_in_shards(suite, MORE, tmp_path, "-n", "2")
    ended = merge(suite, given.shards)
    assert comparable(ended.result) == comparable(given.whole)
    verdicts = {run.device: run.verdict for run in ended.result.runs}
    assert [name for name, verdict in verdicts.items() if verdict == "conforms"] == ["torch", "excused"]
    assert "stage heads, device swapped" in ended.output


def test_shard_is_a_part_unless_something_failed(in_shards: InShards) -> None:
    for path in in_shards.shards:
        document = read_results(path)
        assert document is not None
        assert document.part is not None
        assert document.part.shard == f"{path.stem}/3"
        verdicts = {run.device: run.verdict for run in document.runs}
        assert {verdicts[name] for name in ("right", "cured")} == {"part"}
        assert document.problems == ()  # no expectation is held to one part
        assert all(not run.accuracy and not run.perf for run in document.runs)


def test_shard_of_a_right_device_ends_green_and_says_what_is_next(suite: Suite, tmp_path: Path) -> None:
    ended = suite.run("--device=right", "--shard=2/3", "-m", "accuracy", *CHECKS, results=tmp_path / "2.json")
    assert (ended.status, ended.result.verdict) == (0, "part")
    assert "11 images, of which 4 are shard 2/3" in ended.output
    assert "coco (4 of 11 images, shard 2/3): judged by python -m harness merge, with the others" in ended.output


def test_merged_run_is_held_to_a_baseline(suite: Suite, in_shards: InShards, tmp_path: Path) -> None:
    values = in_shards.whole.model_dump(mode="json", by_alias=True)
    values["runs"] = [run for run in values["runs"] if run["device"] == "right"]
    values["runs"][0]["accuracy"][0]["AP"] = 0.99
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps({**values, "verdict": "undecided"}))
    ended = merge(suite, in_shards.shards, f"--baseline={earlier}")
    assert any("0.99" in problem for problem in ended.result.problems), ended.result.problems


def test_merged_run_has_a_page(suite: Suite, in_shards: InShards, tmp_path: Path) -> None:
    merge(suite, in_shards.shards, f"--report={tmp_path / 'page'}")
    assert "deviates" in (tmp_path / "page" / "report.md").read_text()


Spoil = Callable[[InShards, list[Path]], list[Path]]


def without_the_second(given: InShards, shards: list[Path]) -> list[Path]:
    return [shards[0], shards[2]]


def twice_the_first(given: InShards, shards: list[Path]) -> list[Path]:
    return [*shards, shards[0]]


def without_its_companion(given: InShards, shards: list[Path]) -> list[Path]:
    shards[1].with_name("2.part.npz").unlink()
    return shards


def with_the_companion_of_another(given: InShards, shards: list[Path]) -> list[Path]:
    shutil.copy(shards[0].with_name("1.part.npz"), shards[1].with_name("2.part.npz"))
    return shards


def with_a_cut_companion(given: InShards, shards: list[Path]) -> list[Path]:
    file = shards[1].with_name("2.part.npz")
    file.write_bytes(file.read_bytes()[:-1000])
    return shards


def with_another_number(given: InShards, shards: list[Path]) -> list[Path]:
    shards[1].write_text(shards[1].read_text().replace('"shard": "2/3"', '"shard": "1/3"'))
    return shards


def with_a_whole_run(given: InShards, shards: list[Path]) -> list[Path]:
    shards[1].write_text(json.dumps(given.whole.model_dump(mode="json", by_alias=True)))
    return shards


def with_one_that_did_not_end(given: InShards, shards: list[Path]) -> list[Path]:
    values = {**json.loads(shards[1].read_text()), "verdict": "incomplete", "part": None}
    shards[1].write_text(json.dumps(values))
    return shards


def with_a_cut_document(given: InShards, shards: list[Path]) -> list[Path]:
    shards[1].write_text(shards[1].read_text()[:500])
    return shards


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_the_second, "1 of 3 shards are missing: 2/3\n  remedy: run them, such as --shard 2/3"),
        (twice_the_first, "shard 1/3 is given 2 times: "),
        (without_its_companion, "2.part.npz: 2.json speaks of this part, and it is not there"),
        (with_the_companion_of_another, "2.part.npz: sha256: not the part that 2.json speaks of"),
        (with_a_cut_companion, "2.part.npz: sha256: not the part that 2.json speaks of: it was cut or changed"),
        (with_another_number, "2.json: part.shard: it says shard 1/3, and its part 2/3"),
        (with_a_whole_run, "2.json: part: a document of a whole run"),
        (with_one_that_did_not_end, "2.json: part: a run that is 'incomplete', and has no part"),
        (with_a_cut_document, "2.json: RESULTS: not a results document"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_shards_that_are_not_all_of_one_run_are_refused(
    suite: Suite, in_shards: InShards, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    given = spoil(in_shards, in_shards.copied(tmp_path / "shards"))
    ended = merge(suite, given, results=tmp_path / "all.json")
    assert ended.status == 4
    assert said in ended.output, ended.output
    assert not (tmp_path / "all.json").exists()


def test_shards_of_different_runs_are_refused(suite: Suite, in_shards: InShards, tmp_path: Path) -> None:
    other = tmp_path / "2.json"
    suite.run("--device=right", "--limit=9", "--shard=2/3", *CHECKS, results=other)
    ended = merge(suite, [in_shards.shards[0], other, in_shards.shards[2]])
    assert ended.status == 4
    said = "not of the same run as 1.json: another images, another devices, another device cards, another expectations"
    assert said in ended.output, ended.output


def test_merged_document_replaces_no_shard(suite: Suite, in_shards: InShards) -> None:
    ended = merge(suite, in_shards.shards, results=in_shards.shards[0])
    assert ended.status == 4
    assert "it would replace one of the shards" in ended.output
    assert read_results(in_shards.shards[0]) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shard=3/2",), "--shard: '3/2' is no part of a run"),
        (("--shard=0/2",), "--shard: '0/2' is no part of a run"),
        (("--shard=half",), "--shard: 'half' is no part of a run"),
        (("--shard=1/4",), "11 images in whole batches of 1, 4 make at most 3 parts of 4 images"),
        (("--shard=1/2", "--baseline=b.json"), "--shard --baseline: a part is not held to a baseline"),
        (("--shard=1/2", "--against=torch"), "--shard --against: a part has no speed"),
        (("--shard=1/2", "-m", "perf"), "-m perf --shard: a part has no speed"),
    ],
)
def test_part_that_cannot_be_is_refused(suite: Suite, arguments: tuple[str, ...], said: str) -> None:
    ended = suite.run("--device=right", *arguments, *CHECKS)
    assert ended.status == 4
    assert said in ended.output, ended.output
