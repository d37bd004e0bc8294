"""What pyproject.toml cannot say: with INFERTUNER_COMPILE=1 the inner loops become C, translated from the same source.

    pip install mypy && INFERTUNER_COMPILE=1 pip install --no-build-isolation .

needs a C compiler. Results are the same to the last bit; only time differs. Without it, and in editable installs for
development, everything is plain Python.
"""

import os

from setuptools import setup

SERVING = "infertuner/serving"
ENGINE = (
    "blocks", "decoding", "engine", "iterations", "jump", "notes", "offloading", "prefix_blocks", "scheduler",
    "segments", "sequence",
)  # fmt: skip
COMPILED = [
    *(f"{SERVING}/continuous/{name}.py" for name in ENGINE),
    f"{SERVING}/apart.py",
    f"{SERVING}/own_clock.py",
    f"{SERVING}/request.py",
    "infertuner/latency/lines.py",
    "infertuner/latency/noise.py",
]

if os.environ.get("INFERTUNER_COMPILE") == "1":
    from mypyc.build import mypycify

    setup(ext_modules=mypycify(COMPILED))
else:
    setup()
