"""`python -m infertuner` without a command names the commands there are, each of which can be asked for help."""

from __future__ import annotations

import re
import subprocess
import sys


def test_every_command_is_named_and_helps():
    asked = subprocess.run([sys.executable, "-m", "infertuner"], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    named = re.findall(r"python -m (infertuner\.\w+)", asked.stderr)
    assert len(named) == 6
    for name in named:
        helped = subprocess.run([sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=False)
        assert helped.returncode == 0
        assert name in helped.stdout
