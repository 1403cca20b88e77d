"""Runs mutants in processes of their own: ``python -m conformance.meta.fuzz.block CORPUS OUTPUT SEED NAME:NUMBER ...``.

OUTPUT gets a JSON object a line, see `trial.Result`. A mutant that ends its process, or takes more than it may of time,
is noted, and the next one gets a new process.
"""

import json
import os
import resource
import select
import shutil
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from conformance.meta.fuzz.formats import FORMATS
from conformance.meta.fuzz.trial import Result, run_mutant

PROCESSOR_SECONDS = 30
"""Of one mutant; what waits without working is ended by `WAITING_SECONDS`."""
WAITING_SECONDS = 240
MEMORY = 6 * 2**30
"""Bytes that a process may take beyond what it starts with."""

Mutant = tuple[str, int]


def run_block(corpus: Path, seed: int, mutants: list[Mutant], folder: Path) -> list[Result]:
    """Run mutants one after the other, in as few processes as they leave alive."""
    results: list[Result] = []
    while len(results) < len(mutants):
        receiver, sender = os.pipe()
        child = os.fork()
        if not child:
            os.close(receiver)
            _work(corpus, seed, mutants[len(results) :], folder, sender)
        os.close(sender)
        missing = len(mutants) - len(results)
        why = _collect(receiver, results, missing)
        os.close(receiver)
        if why:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if why or status:
            spent = status == -signal.SIGPROF
            kind = why or ("hung" if spent else f"crashed with {status}")
            results.append(Result(*mutants[len(results)], kind))
    return results


def _work(corpus: Path, seed: int, mutants: list[Mutant], folder: Path, sender: int) -> None:
    """Run mutants in this process, and end it."""
    try:
        _run_all(corpus, seed, mutants, folder, sender)
    except BaseException:  # of the fuzz itself: nothing of the other process may run in this one
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _run_all(corpus: Path, seed: int, mutants: list[Mutant], folder: Path, sender: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(sender, "w") as pipe:
        for name, number in mutants:
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
            place = folder / f"{name.replace(' ', '-')}-{number}"
            shutil.rmtree(place, ignore_errors=True)
            print(json.dumps(asdict(run_mutant(name, number, seed, corpus, place))), file=pipe, flush=True)
            os.chdir(folder)
            shutil.rmtree(place)


def _collect(receiver: int, results: list[Result], missing: int) -> str | None:
    """Take in results until the process has ended; return why it must be, if it does not."""
    rest = b""
    for _ in range(missing + 1):
        while b"\n" not in rest:
            if not select.select([receiver], [], [], WAITING_SECONDS)[0]:
                return "hung"
            more = os.read(receiver, 2**16)
            if not more:
                return None
            rest += more
        line, _, rest = rest.partition(b"\n")
        results.append(Result(**json.loads(line)))
    return None


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    """Run the mutants of the command line; ``--results``, which `Suite.run` gives to every run, is of no use here."""
    corpus, output, seed, *named = (argument for argument in sys.argv[1:] if not argument.startswith("--results="))
    mutants = [(name, int(number)) for name, _, number in (one.rpartition(":") for one in named)]
    assert all(name in FORMATS for name, _ in mutants)
    with TemporaryDirectory(prefix="fuzz-") as folder:
        results = run_block(Path(corpus), int(seed), mutants, Path(folder).resolve())
        os.chdir("/")
    Path(output).write_text("".join(json.dumps(asdict(one)) + "\n" for one in results), encoding="utf-8")


if __name__ == "__main__":
    main()
