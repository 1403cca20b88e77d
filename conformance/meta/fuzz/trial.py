"""One mutant from its number to what became of it, in this process."""

import io
import os
import random
import shlex
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from conformance.meta.fuzz.formats import FORMATS, Format
from conformance.meta.fuzz.options import odd_arguments
from harness.cli import last_resort, main
from harness.errors import HarnessError
from harness.report.defect import MARK

SEED = int(os.environ.get("CENTERNET_CONFORMANCE_FUZZ_SEED", "2026"))
REFUSED, ACCEPTED, LAST_RESORT = "refused", "accepted", "last resort"
OF_OTHERS = ("centernet-conformance-defect-", "torchinductor_")
"""Beginnings of names of temporary files that may stay."""
OF_LIBRARIES = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Warnings that are for the authors of libraries."""
LONGEST = 8000
"""Characters of a message."""


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of a mutant.

    Attributes:
        format: Of the file.
        number: Of the mutant.
        kind: `REFUSED` with an error that names file, cause and remedy, `ACCEPTED` as harmless, or what went wrong.
        made: What was done to the file, and what then read it.
        said: What the verb printed.
    """

    format: str
    number: int
    kind: str
    made: str = ""
    said: str = ""


def run_mutant(name: str, number: int, seed: int, corpus: Path, folder: Path) -> Result:
    """Make a mutant in the new folder `folder` from the files of the corpus, and let a verb read it."""
    kind, choice = FORMATS[name], random.Random(f"{seed}:{name}:{number}")
    shutil.copytree(corpus, folder, copy_function=os.link)
    source = kind.sources[number % len(kind.sources)]
    scratch = folder / "scratch"
    scratch.mkdir()
    os.chdir(folder)
    with mock.patch.object(tempfile, "tempdir", str(scratch)):
        use, said = _prepared(kind, name, number, choice, corpus, folder)
        status, out, err = run(use)
    kept = {file.name for file in scratch.iterdir() if not file.name.startswith(OF_OTHERS)}
    found = judge(status, out, err, source)
    if (folder / "canary").exists():
        found = "ran what the file holds"
    elif kept or list(folder.rglob("*.partial")):
        found = f"left {', '.join(sorted(kept)) or 'a partial file'}"
    shown = use.__name__ if callable(use) else " ".join(use)
    return Result(name, number, found, f"{said}; {shown}", (out + err)[:LONGEST])


def _prepared(
    kind: Format, name: str, number: int, choice: random.Random, corpus: Path, folder: Path
) -> tuple[list[str] | Callable[[], None], str]:
    """Do the damage; return what reads it, and a few words on the damage."""
    use = kind.uses[number % len(kind.uses)]
    if name == "command line":
        assert isinstance(use, str)
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("nothing")
        return odd_arguments(choice, use), "odd"
    source = kind.sources[number % len(kind.sources)]
    (folder / source).unlink()
    # Damages take turns over the numbers, independent of the turns of the uses.
    damage = kind.damages[(number // len(kind.uses)) % len(kind.damages)]
    said = damage(choice, corpus / source, folder / source)
    return use if callable(use) else shlex.split(use), said


def run(use: list[str] | Callable[[], None]) -> tuple[int | str, str, str]:
    """Run a verb, or a function as a verb would; return status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["harness"] if callable(use) else ["harness", *use]
    status: int | str = "no end"
    with (
        mock.patch.object(sys, "argv", arguments),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        for kind in OF_LIBRARIES:
            warnings.simplefilter("ignore", kind)
        try:
            if callable(use):
                with last_resort.at_hand():
                    use()
                status = 0
            else:
                main()
        except HarnessError as error:
            status = 4
            print(error.message(), file=sys.stderr)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException as error:
            status = type(error).__name__
            traceback.print_exc()
    return status, out.getvalue(), err.getvalue()


def judge(status: int | str, out: str, err: str, source: str) -> str:
    """Say what became of a mutant of the file `source`."""
    if MARK in err:
        return LAST_RESORT
    if status not in (0, 1, 4):
        return f"ended with {status}"
    if "Traceback" in out + err:
        return "traceback"
    if any(not (one.isprintable() or one in "\n\r\t") for one in out + err):
        return "unescaped"
    if "Warning: " in err:
        return "a warning of Python"
    if "weights_only=False" in err or "weights_only`" in err:
        return "advice to run what the file holds"
    if status != 4:
        return ACCEPTED
    if len(err) > LONGEST:
        return "a message too long"
    path = Path(source)
    # A data set is named by its folder, where it is a file of it that is not there.
    names = (path.name, path.stem, path.parent.name, path.parts[0]) if source else ()
    named = not names or any(name in err for name in names if name)
    return REFUSED if named and "remedy: " in err else "no file or remedy"
