"""Published numbers become profiles that predict what was held out, and numbers that cannot be do not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infertuner.calibrate import _parser, main
from infertuner.errors import CalibrationError
from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.importers.gpus import GPUS
from infertuner.latency.importers.profiles import READERS, import_profile
from infertuner.latency.profile import load_calibration
from infertuner.sources.requests import Floats
from infertuner.validation.runs import Run
from infertuner.validation.step_fit import fit_steps
from infertuner.validation.step_profile import SUFFIXES

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="measured data are not here")
SPLITWISE_COLUMNS = [
    "model", "hardware", "prompt_size", "batch_size", "token_size", "prompt_time", "token_time", "tensor_parallel",
]  # fmt: skip
A, B, C, D = 0.011, 45e-6, 55e-6, 1e-7
"""Seconds of an iteration, of a prefilled token, of a decode and of a KV entry read by one."""


def _splitwise_file(path: Path, scale: float = 1.0) -> Path:
    """A service in which a prompt takes 100 ms and 0.5 ms a token, and a step 50 ms and 0.1 ms a sequence."""
    shapes = [(prompt, 1) for prompt in (128, 256, 512, 1024, 2048, 4096)] + [(512, 2**i) for i in range(1, 6)]
    rows = [
        (
            "llama2-70b",
            hardware,
            prompt,
            batch,
            128,
            scale * (100 + 0.5 * prompt * batch),
            scale * (50 + 0.1 * batch),
            8,
        )
        for prompt, batch in shapes
        for hardware in ("h100-80gb", "h100-80gb-pcap")
        for _ in range(3)
    ]
    pd.DataFrame(rows, columns=SPLITWISE_COLUMNS).to_csv(path, index=False)
    return path


def test_the_command_writes_a_public_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = _splitwise_file(tmp_path / "perf_model.csv"), tmp_path / "profile.json"
    arguments = ["--import", "splitwise", str(path), "--gpu", "h100-80gb", "--tp", "8", "--commit", "8f99e7d"]
    assert main([*arguments, "--out", str(out)]) == 0
    found = load_calibration(out)
    assert found.provenance == "public"
    assert found.origin is not None
    assert (found.origin.commit, found.origin.licence) == ("8f99e7d", "MIT")
    assert found.decode.holdout.worst_ratio < 0.01
    latency = ProfileLatency(found, name="p", refuse=False)
    assert latency.decode_s(batch_size=16, context_tokens=576, steps=1) == pytest.approx(0.0516, rel=0.01)
    assert latency.prefill_s(batch_size=1, new_tokens=3000, cached_tokens=0) == pytest.approx(1.6, rel=0.01)
    assert found.prefill.assumed == ("kv_entry_s",)
    assert "no prefill behind a cached prefix was measured" in found.origin.note
    behind_s = latency.prefill_s(batch_size=1, new_tokens=100, cached_tokens=2900)
    assert behind_s == pytest.approx(0.15, rel=0.02), "what 100 tokens cost, and not 3,000"
    assert "held-out error" in capsys.readouterr().out


def test_commands_of_the_page_parse() -> None:
    page = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ +python -m infertuner\.calibrate (.*)$", page, flags=re.MULTILINE)
    formats = {_parser().parse_args(shlex.split(line)).published[0] for line in commands}
    assert formats == {*READERS, *SUFFIXES}
    assert all(f"`{name}`" in page for name in [*formats, *GPUS])


def test_numbers_faster_than_the_gpu_are_refused(tmp_path: Path) -> None:
    path = _splitwise_file(tmp_path / "perf_model.csv", scale=0.01)
    with pytest.raises(CalibrationError, match="faster than NVIDIA H100 80GB can run"):
        import_profile("splitwise", path, gpu="h100-80gb", tp=8)


def test_an_unknown_format_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import", "excel", str(tmp_path)]) == 2
    assert "choose one of llmservingsim" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rtx4090", "rtxpro6000", "h200"])
def test_bundled_public_profiles_say_where_they_come_from_and_how_far_they_are_off(name: str) -> None:
    found = load_calibration(ROOT / "calibration" / f"public-{name}-llama-3.1-8b.json")
    assert found.provenance == "public"
    assert found.origin is not None
    assert found.origin.commit in ("5daddb2", "095f58a")
    assert "no host time" in found.origin.note or "host time" in found.origin.note
    assert found.host_gap is None
    assert found.model.kv_bytes_per_token == 131072
    assert found.mixed is not None
    for law in (found.prefill, found.decode, found.mixed):
        assert law.holdout.mean_ratio < 0.05
    latency = ProfileLatency(found, name="p", refuse=True)
    weights_s = 2 * 7.5e9 / (1.1 * {"rtx4090": 1.008e12, "rtxpro6000": 1.792e12, "h200": 4.8e12}[name])
    assert latency.decode_s(batch_size=1, context_tokens=1000, steps=1) > weights_s


@needs_data
@pytest.mark.parametrize(
    ("format_", "path", "name"),
    [
        ("llmservingsim", "kernels/rtxpro6000-llama-3.1-8b", "rtxpro6000"),
        ("aiconfigurator", "published_gpu", "h200"),
    ],
)
def test_importing_again_gives_the_bundled_profile(format_: str, path: str, name: str) -> None:
    bundled = load_calibration(ROOT / "calibration" / f"public-{name}-llama-3.1-8b.json")
    assert bundled.origin is not None
    again = import_profile(format_, DATA / path, model="llama-3.1-8b", gpu=name, commit=bundled.origin.commit)
    for kind in ("prefill", "decode"):
        assert getattr(again, kind).form == getattr(bundled, kind).form
        assert getattr(again, kind).kv_entry_s.value == pytest.approx(getattr(bundled, kind).kv_entry_s.value, rel=0.05)
        assert getattr(again, kind).holdout.mean_ratio == pytest.approx(
            getattr(bundled, kind).holdout.mean_ratio, rel=0.05
        )


def _served(requests: int, rate: float, seed: int) -> Run:
    """Requests of an engine that does all running requests' next tokens and waiting prompts in one iteration."""
    rng = np.random.default_rng(seed)
    arrived = np.sort(rng.uniform(0, requests / rate, requests))
    prompt, output = rng.integers(20, 1500, requests), rng.integers(2, 200, requests)
    now, waiting, running = 0.0, list(range(requests)), []
    tokens: list[list[float]] = [[] for _ in range(requests)]
    while waiting or running:
        if not running:
            now = max(now, float(arrived[waiting[0]]))
        new = [i for i in waiting if arrived[i] <= now][:2]
        waiting = waiting[len(new) :]
        entries = sum(int(prompt[i]) + len(tokens[i]) for i in running)
        now += A + B * float(prompt[new].sum()) + C * len(running) + D * entries
        for i in running + new:
            tokens[i].append(now)
        running = [i for i in running + new if len(tokens[i]) < output[i]]
    first, last = (np.array([one[place] for one in tokens]) for place in (0, -1))
    gaps: list[Floats] = [np.diff(one) for one in tokens]
    return Run(arrived, first, last, prompt, output, gaps)


def test_an_engines_coefficients_come_back_from_its_tokens() -> None:
    fit = fit_steps(_served(300, 4.0, 1))
    found = [fit.fixed_s, fit.prefill_token_s, fit.decode_s, fit.kv_entry_s]
    assert found == pytest.approx([A, B, C, D], rel=0.03)
    assert fit.holdout_mean_ratio < 0.01


def test_what_is_held_out_shares_no_iteration_with_what_is_fitted() -> None:
    """All requests run side by side on a machine that slows down half-way: only a cut in time has to notice."""
    at_s = np.concatenate([np.arange(1, 151) * 0.01, 1.5 + np.arange(1, 151) * 0.02])
    tokens = [0.001 * number + at_s for number in range(20)]
    first, last = (np.array([one[place] for one in tokens]) for place in (0, -1))
    size = np.full(20, len(at_s))
    run = Run(first * 0, first, last, size, size, [np.diff(one) for one in tokens])
    assert fit_steps(run).holdout_mean_ratio == pytest.approx(0.5, abs=0.05)


def test_a_vllm_result_file_becomes_a_profile(tmp_path: Path) -> None:
    run, path, out = _served(120, 4.0, 2), tmp_path / "result.json", tmp_path / "profile.json"
    content = {
        "start_times": run.arrived_at_s.tolist(),
        "ttfts": (run.first_token_at_s - run.arrived_at_s).tolist(),
        "itls": [gaps.tolist() for gaps in run.gaps_s],
        "input_lens": run.prompt_tokens.tolist(),
        "output_lens": run.output_tokens.tolist(),
    }
    path.write_text(json.dumps(content))
    assert main(["--import", "vllm", str(path), "--model", "llama-3.1-8b", "--gpu", "h200", "--out", str(out)]) == 0
    latency = ProfileLatency(load_calibration(out), name="p", refuse=False)
    step_s = A + 8 * C + 8 * 800 * D
    assert latency.decode_s(batch_size=8, context_tokens=800, steps=1) == pytest.approx(step_s, rel=0.02)
    assert latency.prefill_s(batch_size=1, new_tokens=1000, cached_tokens=0) == pytest.approx(A + 1000 * B, rel=0.03)
    behind_s = latency.prefill_s(batch_size=1, new_tokens=100, cached_tokens=1000)
    assert behind_s == pytest.approx(A + 100 * B + 1000 * D, rel=0.03), "a cached entry costs what a decode pays for it"


def test_an_aiperf_export_becomes_the_same_profile(tmp_path: Path) -> None:
    run, path, out = _served(120, 4.0, 2), tmp_path / "profile_export.jsonl", tmp_path / "profile.json"
    lines = []
    for i in range(120):
        times_ms = {
            "time_to_first_token": run.first_token_at_s[i] - run.arrived_at_s[i],
            "request_latency": run.finished_at_s[i] - run.arrived_at_s[i],
        }
        metrics: dict[str, object] = {key: {"value": 1e3 * value, "unit": "ms"} for key, value in times_ms.items()}
        metrics["inter_chunk_latency"] = {"value": (1e3 * run.gaps_s[i]).tolist(), "unit": "ms"}
        metrics["input_sequence_length"] = {"value": int(run.prompt_tokens[i]), "unit": "tokens"}
        metrics["output_sequence_length"] = {"value": int(run.output_tokens[i]), "unit": "tokens"}
        begun = {"request_start_ns": round(1e9 * run.arrived_at_s[i]), "benchmark_phase": "profiling"}
        lines.append(json.dumps({"metadata": begun, "metrics": metrics, "error": None}))
    path.write_text("\n".join(lines))
    assert main(["--import", "aiperf", str(path), "--model", "llama-3.1-8b", "--gpu", "h200", "--out", str(out)]) == 0
    latency = ProfileLatency(load_calibration(out), name="p", refuse=False)
    step_s = A + 8 * C + 8 * 800 * D
    assert latency.decode_s(batch_size=8, context_tokens=800, steps=1) == pytest.approx(step_s, rel=0.02)


@pytest.mark.parametrize(
    ("file", "model", "message"), [("a.json", None, "--model"), ("a.csv", "llama-3.1-8b", "ends in")]
)
def test_a_result_file_needs_its_model_and_its_ending(
    tmp_path: Path, file: str, model: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text("{}")
    chosen = [] if model is None else ["--model", model]
    assert main(["--import", "vllm", str(tmp_path / file), "--gpu", "h200", *chosen]) == 2
    assert message in capsys.readouterr().err
