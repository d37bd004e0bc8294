"""The continuous engine against measured vLLM runs: what docs/fidelity.md claims."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="measured data are not here")


@pytest.fixture(scope="module")
def fidelity() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("vllm_fidelity", ROOT / "benchmarks" / "vllm_fidelity.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["vllm_fidelity"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


@pytest.mark.parametrize(
    ("key", "gap_s", "bounds"),
    [
        ("rtx4090", 0.0, {"TTFT": 0.02, "TPOT": 0.01, "E2E": 0.02}),
        ("rtxpro6000", 0.001, {"TTFT": 0.06, "TPOT": 0.02, "E2E": 0.03}),
    ],
)
def test_kernel_tables_alone_predict_a_measured_run(
    fidelity: ModuleType, key: str, gap_s: float, bounds: dict[str, float]
) -> None:
    measured = fidelity.read_run(DATA, key)
    first, last, preemptions = fidelity.simulate(measured, fidelity.table_latency(DATA, key, gap_s))
    said = measured.latencies_s(first, last)
    real = measured.latencies_s(measured.first_token_at_s, measured.finished_at_s)
    for metric, bound in bounds.items():
        assert np.nanmean(said[metric]) / np.nanmean(real[metric]) - 1 == pytest.approx(0.0, abs=bound)
    assert (preemptions > 100) == (key == "rtx4090")  # the small card preempts, the large one never does
