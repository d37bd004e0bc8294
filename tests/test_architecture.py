"""The shape of the package: imports point one way, heavy libraries have one door each."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "infertuner"
WORDS = {"errors", "units", "parts", "streams", "records", "provenance", "commands", "version"}
LAYERS = [
    WORDS,
    {"sources", "cache", "latency"},
    {"serving", "outcomes"},
    {"scenario"},
    {"experiments"},
    {"validation", "sweeping"},
    {"tuning"},
    {"simulate", "calibrate", "validate", "sweep", "tune"},
]
DOORS = {
    "simpy": {"serving"},
    "torch": {"latency/hardware/", "validation/engine/"},
    "transformers": {"latency/hardware/", "validation/engine/"},
    "scipy": {"latency/fitting/", "latency/measuring/polish.py", "outcomes/statistics.py"},
    "matplotlib": {"outcomes/figures.py", "outcomes/calibration_figures.py", "outcomes/validation_figures.py"},
    "plotly": {"outcomes/html/page.py"},
    "sklearn": {"tuning/comparison/"},
    "yaml": {"scenario/yaml12.py"},
    "joblib": {"sweeping/engines.py"},
    "pyarrow": {"outcomes/folder.py", "sources/trace_", "latency/importers/"},
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Full names of what a module imports when it runs; type-checking imports may look up."""
    tree = ast.parse(path.read_text())
    ignored = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and getattr(guard.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(room):
    return next(index for index, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    if room in ("__init__",):
        return
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "infertuner" or parts[1] == room:
            continue
        if name.startswith("infertuner.sources.requests."):
            continue  # the shape of a request is everybody's word
        assert layer_of(parts[1]) < layer_of(room) or {parts[1], room} <= WORDS, f"{room} imports {name}"


@pytest.mark.parametrize("library", DOORS)
def test_every_heavy_library_has_its_door(library):
    for path in modules():
        here = path.relative_to(PACKAGE).as_posix()
        if any(name.split(".")[0] == library for name in imports_of(path)):
            assert any(here.startswith(door) for door in DOORS[library]), f"{here} imports {library}"


@pytest.mark.parametrize("module", ["infertuner", "infertuner.simulate", "infertuner.sweep"])
def test_importing_loads_neither_torch_nor_matplotlib(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nobody_imports_a_command():
    for path in modules():
        for name in filter(lambda name: name.startswith("infertuner."), imports_of(path)):
            assert name.split(".")[1] not in LAYERS[-1], f"{path.name} imports {name}"


def test_durations_and_instants_carry_their_unit():
    """A float field of a record or part says its unit in its name, or is a plain number by its type."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            kind = ast.unparse(node.annotation).split(" |")[0]
            if kind in ("Seconds", "PositiveSeconds", "PerSecond", "BytesPerSecond"):
                assert node.target.id.endswith("_s") or node.target.id == "per_s", (
                    f"{path.name}: {node.target.id}: {kind}"
                )
