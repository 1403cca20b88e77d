"""``python -m harness VERB``, and the command ``centernet-conformance``."""

from __future__ import annotations

import sys


def run(*program: str) -> None:
    """Run the command line, or say which package it lacks; `program` is its name where that is not the module's."""
    try:
        from harness.cli import main
        from harness.cli.standard_streams import take_standard_streams

        take_standard_streams()
        main(*program)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        print(f"{error}\n  remedy: run 'pip install -e .' in the checkout", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:  # while the command line itself was loaded
        sys.exit(130)


def run_command() -> None:
    """Run ``centernet-conformance``, the command that shells can complete."""
    run("centernet-conformance")


if __name__ == "__main__":
    run()
