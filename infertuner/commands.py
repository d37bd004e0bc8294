"""What every command does around its own work: readable errors and honest exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from infertuner.errors import InferTunerError


def run_command(main: Callable[[], int]) -> int:
    """Run `main` and return its exit code; an error the user can mend is one line on stderr and code 2.

    Ctrl-C is code 130, as shells have it, and a reader that went away is no error.
    Anything else is a defect and keeps its traceback.
    """
    try:
        code = main()
        sys.stdout.flush()
        return code
    except InferTunerError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 (this is the commands' voice)
        return 2
    except MemoryError:
        print("error: not enough memory; ask for fewer requests, users or GPUs", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130


def scenario_parser(name: str, about: str | None, example: str, *, values: str, runs: str) -> argparse.ArgumentParser:
    """The arguments of every command that takes a scenario: which one, what to change in it, where to write.

    values: what `--set` can be given; runs: what `--replications` counts.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m infertuner.{name}", description=about, epilog=f"example: {example}"
    )
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"{values} (repeatable)")
    parser.add_argument("--seed", help="change the seed")
    parser.add_argument("--replications", metavar="N", help=f"change how often {runs}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: a new one under results/)")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder given by --out")
    return parser
