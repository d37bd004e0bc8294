"""The commands of docs/formats.md, one after the other in one folder, as a reader would type them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_run_in_order(tmp_path):
    for name in ("scenarios", "calibration"):
        (tmp_path / name).symlink_to(ROOT / name)
    lines = [line for block in BLOCKS for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        arguments = [sys.executable, *shlex.split(line)[1:]]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "workload.jsonl").read_text().count("\n") == 60
    assert "the two do not hold the same requests" not in done.stdout
