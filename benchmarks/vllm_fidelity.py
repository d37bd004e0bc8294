"""The continuous engine against two measured runs of vLLM 0.19, request by request.

    python benchmarks/vllm_fidelity.py --data FOLDER

300 ShareGPT requests on one GPU with Llama-3.1-8B, far above its capacity: casys-kaist/LLMServingSim at 5daddb2, MIT.
Arrivals are the measured instants at which requests entered the queue, prompts share prefixes as they did there, and
the engine has the run's own settings. Three sources of step times:

kernel tables   the kernels timed on the same GPU, looked up and added up, with and without a stated host gap;
profile         the law that `calibrate --import` fits to the same tables, likewise;
half the run    four coefficients (a + b x prefill tokens + c x decodes + d x KV entries) fitted to the first and last
                token of the first 150 requests, judged on the other 150.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from fidelity_latency import Affine, Tables
from scipy.optimize import least_squares

from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.importers import llmservingsim
from infertuner.latency.importers.profiles import import_profile
from infertuner.latency.machine import HostGap
from infertuner.latency.model import Chunk, LatencyModel
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, PrefixBlocks, Requests

GPUS = {"rtx4090": "RTX 4090", "rtxpro6000": "RTX PRO 6000"}
BLOCK_TOKENS = 16
HOST_GAPS_S = (0.0, 0.0005, 0.001)
"""Nothing; the half millisecond a step by which kernel sums fell short of an engine elsewhere; and twice that. None of
them is fitted to the runs."""
PRO_6000_BLOCKS = 35_000
"""Not recorded. Nine tenths of 95 GiB, less 16.1 GB of weights and 1.2 GB of activations as on the RTX 4090, leave
35 to 36 thousand blocks of 2 MiB; the run never needs a third of them."""
STEP_RATIO = 0.02
"""Relative step of the numerical derivatives: large enough to see past single scheduling decisions."""


@dataclass(frozen=True)
class Measured:
    """One run: what was asked of the engine, its settings, and when tokens came, in the order of arrival."""

    asked: Requests
    batcher: Continuous
    first_token_at_s: np.ndarray
    finished_at_s: np.ndarray

    @property
    def arrived_at_s(self) -> np.ndarray:
        """When requests entered the queue."""
        assert isinstance(self.asked.pacing, OpenLoop)
        return self.asked.pacing.arrived_at_s

    def latencies_s(self, first_at_s: np.ndarray, last_at_s: np.ndarray) -> dict[str, np.ndarray]:
        """TTFT, TPOT and end-to-end latency of every request."""
        gaps = np.where(self.asked.output_tokens > 1, self.asked.output_tokens - 1.0, np.nan)
        return {
            "TTFT": first_at_s - self.arrived_at_s,
            "TPOT": (last_at_s - first_at_s) / gaps,
            "E2E": last_at_s - self.arrived_at_s,
        }


def read_run(data: Path, key: str, blocks: int | None = None) -> Measured:
    """The measured run of one GPU; `blocks` replaces the KV blocks the engine had."""
    folder = data / "vllm_runs"
    rows = pd.read_csv(folder / f"{key}-llama-3.1-8b.requests.csv").sort_values("queued_s", kind="stable")
    lines = (folder / "llama-3.1-8b.workload-blocks16.jsonl").read_text().splitlines()
    ids = {line["request_id"]: line["hash_ids"] for line in map(json.loads, lines)}
    engine = json.loads((folder / f"{key}-llama-3.1-8b.engine.json").read_text())
    knobs = engine["engine_kwargs"]
    listed = [ids[request] for request in rows.request_id]
    asked = Requests(
        pacing=OpenLoop(rows.queued_s.to_numpy() - rows.queued_s.min()),
        session_id=rows.request_id.tolist(),
        prompt_tokens=rows.input_toks.to_numpy(),
        prefix_tokens=np.zeros(len(rows), dtype=np.int64),
        output_tokens=rows.output_toks.to_numpy(),
        blocks=PrefixBlocks(
            BLOCK_TOKENS,
            np.concatenate([np.array(one, dtype=np.int64) for one in listed]),
            np.cumsum([0, *map(len, listed)]),
        ),
    )
    batcher = Continuous(
        kind="continuous",
        num_gpu_blocks=blocks or engine.get("kv_cache", {}).get("num_gpu_blocks", PRO_6000_BLOCKS),
        max_num_seqs=knobs["max_num_seqs"],
        max_num_batched_tokens=knobs["max_num_batched_tokens"],
        block_size=BLOCK_TOKENS,
    )
    start_s = rows.queued_s.min()
    return Measured(asked, batcher, rows.first_token_s.to_numpy() - start_s, rows.last_token_s.to_numpy() - start_s)


def simulate(measured: Measured, latency: LatencyModel) -> tuple[np.ndarray, np.ndarray, int]:
    """First and last token of every request as the engine says, and how often it preempted."""
    cluster = Cluster(gpus=1, router=RoundRobin(kind="round_robin"), batcher=measured.batcher)
    found = Simulation(measured.asked, cluster, latency).run().requests
    return np.array(found.first_token_at_s), np.array(found.finished_at_s), sum(found.preemptions)


def profile_latency(data: Path, key: str, host_gap_s: float) -> ProfileLatency:
    """Step times of the kernel tables of this GPU, and so much host time in every iteration."""
    profile = import_profile("llmservingsim", data / "kernels" / f"{key}-llama-3.1-8b", gpu=key)
    gap = HostGap(per_iteration_s=host_gap_s, per_sequence_s=0.0, how="stated by the benchmark")
    return ProfileLatency(profile.model_copy(update={"host_gap": gap}), name=key, refuse=False)


def table_latency(data: Path, key: str, host_gap_s: float) -> Tables:
    """The kernel tables of this GPU themselves, and so much host time in every iteration."""
    found = llmservingsim.read(data / "kernels" / f"{key}-llama-3.1-8b", model=None, gpu=key, tp=1).steps
    assert isinstance(found, llmservingsim.LayerTables)
    return Tables(found, host_gap_s)


def fit_half(measured: Measured, start: Sequence[float]) -> Affine:
    """Coefficients with which the engine answers the first half of the requests when vLLM did."""
    half = np.arange(len(measured.asked)) < len(measured.asked) // 2
    real = measured.latencies_s(measured.first_token_at_s, measured.finished_at_s)

    def misfit(ratios: np.ndarray) -> np.ndarray:
        first, last, _ = simulate(measured, Affine(*(np.abs(ratios) * start)))
        said = measured.latencies_s(first, last)
        ttft = (said["TTFT"] - real["TTFT"]) / real["E2E"]
        return np.concatenate([ttft[half], (said["E2E"] / real["E2E"] - 1)[half]])

    found = least_squares(misfit, np.ones(4), diff_step=STEP_RATIO, loss="soft_l1", f_scale=0.01, max_nfev=30)
    return Affine(*(np.abs(found.x) * start))


def start_of(latency: LatencyModel) -> list[float]:
    """Affine coefficients near a profile, to begin the fit with."""
    one, many = latency.decode_line(1), latency.decode_line(64)
    kv_entry_s = (many.step_ps(64 * 1000) - many.step_ps(64 * 500)) / (64 * 500) * 1e-12
    decode_s = (many.step_ps(64 * 500) * 1e-12 - one.step_ps(500) * 1e-12 - 63 * 500 * kv_entry_s) / 63
    prefill_s = latency.iteration_s(chunks=[Chunk(0, 1024)], decodes=0, kv_entries=0)
    fixed_s = one.step_ps(500) * 1e-12 - decode_s - 500 * kv_entry_s
    return [fixed_s, (prefill_s - fixed_s) / 1024, decode_s, kv_entry_s]


def row(measured: Measured, latency: LatencyModel, first: int = 0) -> str:
    """Errors of mean and p99, and of single requests, as cells of a table; of the requests from number `first` on."""
    first_s, last_s, preemptions = simulate(measured, latency)
    said = measured.latencies_s(first_s, last_s)
    real = measured.latencies_s(measured.first_token_at_s, measured.finished_at_s)
    pairs = [(said[metric][first:], real[metric][first:]) for metric in real]
    cells = [f"{np.nanmean(ours) / np.nanmean(theirs) - 1:+.1%}" for ours, theirs in pairs]
    cells += [f"{np.nanpercentile(ours, 99) / np.nanpercentile(theirs, 99) - 1:+.1%}" for ours, theirs in pairs]
    each = np.abs(pairs[-1][0] / pairs[-1][1] - 1)
    return " | ".join([*cells, f"{each.mean():.1%}", str(preemptions)])


def main() -> None:
    """Print the table, then how much it depends on what is not known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    data = parser.parse_args().data
    print("| GPU | step times | TTFT | TPOT | E2E | p99 TTFT | p99 TPOT | p99 E2E | each E2E | preemptions |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    notes: list[str] = []
    for key, name in GPUS.items():
        measured = read_run(data, key)
        for gap_s in HOST_GAPS_S:
            tables, profile = table_latency(data, key, gap_s), profile_latency(data, key, gap_s)
            print(f"| {name} | kernel tables + {1e3 * gap_s:g} ms | {row(measured, tables)} |", flush=True)
            print(f"| {name} | profile + {1e3 * gap_s:g} ms | {row(measured, profile)} |", flush=True)
        fitted = fit_half(measured, start_of(profile))
        half = len(measured.asked) // 2
        values = ", ".join(f"{1e6 * value:.4g}" for value in vars(fitted).values())
        print(f"| {name} | first half, on second | {row(measured, fitted, first=half)} |", flush=True)
        notes.append(f"{name}: fitted to the first half, in us: {values}")
        profile = profile_latency(data, key, HOST_GAPS_S[1])
        notes += [f"{name}: {what}: {row(changed, profile)}" for what, changed in _variants(data, key, measured)]
    print(*notes, sep="\n")


def _variants(data: Path, key: str, measured: Measured) -> Iterator[tuple[str, Measured]]:
    """The same run with other KV memory, and without prefix caching."""
    blocks = measured.batcher.num_gpu_blocks
    for ratio in (0.5, 0.95, 1.05, 1.5):
        yield f"{ratio:g} x {blocks} KV blocks", read_run(data, key, round(ratio * blocks))
    yield "no prefix caching", replace(measured, batcher=replace(measured.batcher, enable_prefix_caching=False))


if __name__ == "__main__":
    main()
