"""What every command does around its own work: readable errors and honest exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

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
