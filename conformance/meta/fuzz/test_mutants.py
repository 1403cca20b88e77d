"""Files of every format, mutated: each ends with an error that names file, cause and remedy, or is harmless.

A mutant is made of a seed, its format and its number. To run one again:
``CENTERNET_CONFORMANCE_FUZZ="ONNX:17" pytest -m fuzz conformance/meta/fuzz/test_mutants.py``.
"""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from conformance.meta.fuzz import tally
from conformance.meta.fuzz.corpus import make_corpus
from conformance.meta.fuzz.formats import FORMATS
from conformance.meta.fuzz.trial import ACCEPTED, REFUSED, SEED, Result
from conformance.support.suite import Suite
from conformance.support.tiny import TinySetup

CHOSEN = [one.strip() for one in os.environ.get("CENTERNET_CONFORMANCE_FUZZ", "").split(",") if one.strip()]
BLOCK = 80
"""Mutants of a test: a process starts in seconds."""
BLOCKS = [(name, start) for name, kind in FORMATS.items() for start in range(0, kind.count, BLOCK)]


@pytest.fixture(scope="session")
def corpus(tiny: TinySetup) -> Path:
    """Real files of every format; one folder for all processes of a run."""
    root = tiny.root.with_name("fuzz-corpus")
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            partial = root.with_suffix(".partial")
            partial.mkdir()
            make_corpus(partial, tiny)
            partial.rename(root)
    return root


class Fuzz:
    """Runs mutants in processes of their own, and notes the results in the report of the test."""

    def __init__(self, suite: Suite, corpus: Path, output: Path, note: list[tuple[str, object]]) -> None:
        self.suite, self.corpus, self.output, self.note = suite, corpus, output, note

    def run(self, mutants: list[str]) -> list[Result]:
        """Run mutants, each ``FORMAT:NUMBER``."""
        arguments = (str(self.corpus), str(self.output), str(SEED), *mutants)
        ended = self.suite.run(*arguments, options=(), module="conformance.meta.fuzz.block")
        assert ended.status == 0, ended.output
        results = [Result(**json.loads(line)) for line in self.output.read_text(encoding="utf-8").splitlines()]
        assert len(results) == len(mutants)
        self.note.append((tally.KEY, tally.pack(results)))
        return results


@pytest.fixture
def fuzz(suite: Suite, corpus: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Fuzz:
    return Fuzz(suite, corpus, tmp_path / "results", request.node.user_properties)


def assert_harmless(results: list[Result]) -> None:
    """Fail with what was done to each mutant that came to no good end, and what was said of it."""
    bad = [one for one in results if one.kind not in (REFUSED, ACCEPTED)]
    shown = "\n\n".join(f"{one.format}:{one.number} {one.kind}\n  {one.made}\n  {one.said[-500:]}" for one in bad[:10])
    again = ",".join(f"{one.format}:{one.number}" for one in bad[:10])
    assert not bad, f"{len(bad)} of {len(results)}; CENTERNET_CONFORMANCE_FUZZ='{again}', seed {SEED}\n\n{shown}"


@pytest.mark.fuzz(always=True)
def test_a_few_mutants_of_every_format_come_to_a_good_end(fuzz: Fuzz) -> None:
    mutants = [f"{name}:{kind.count + number}" for name, kind in FORMATS.items() for number in range(kind.few)]
    assert len(mutants) >= 100
    assert_harmless(fuzz.run(mutants))


@pytest.mark.fuzz
@pytest.mark.skipif(bool(CHOSEN), reason="CENTERNET_CONFORMANCE_FUZZ names others")
@pytest.mark.parametrize(("name", "start"), BLOCKS, ids=[f"{name}-{start}" for name, start in BLOCKS])
def test_mutants_come_to_a_good_end(fuzz: Fuzz, name: str, start: int) -> None:
    numbers = range(start, min(start + BLOCK, FORMATS[name].count))
    assert_harmless(fuzz.run([f"{name}:{number}" for number in numbers]))


@pytest.mark.fuzz
@pytest.mark.skipif(not CHOSEN, reason="CENTERNET_CONFORMANCE_FUZZ names none")
def test_mutants_that_were_chosen_come_to_a_good_end(fuzz: Fuzz) -> None:
    assert_harmless(fuzz.run(CHOSEN))


def test_two_thousand_mutants_are_tried() -> None:
    assert sum(kind.count for kind in FORMATS.values()) >= 2000
