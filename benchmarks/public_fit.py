"""How well a law fitted to few published points predicts the others, beside Vidur's default, a random forest.

    python benchmarks/public_fit.py --data FOLDER [--seeds 5]

16 decode, 16 prefill and 32 mixed iterations of Llama-3.1-8B are asked of published kernel tables at jittered sizes;
the law is what `calibrate` would fit to them. Two sets that were never fitted are predicted: other sizes off the grid,
and the rows of the tables as they were timed. Errors are mean absolute relative errors, over designs of several seeds.
The forest is Vidur's estimator with its middle settings (500 trees, depth 16) on the same features a law uses.
Needs scikit-learn: pip install -e ".[benchmark]".
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from infertuner.latency.fitting import Laws, fit_laws
from infertuner.latency.forms import parts_s, work_of
from infertuner.latency.importers import aiconfigurator, llmservingsim
from infertuner.latency.importers.design import FEW, Counts, choose
from infertuner.latency.importers.observations import Published
from infertuner.latency.points import Kind, Point

KINDS: tuple[Kind, ...] = ("decode", "prefill", "mixed")
HELD_OUT = Counts(150, 150, 200)
ROWS = 1000
"""Rows of a table that are tried, at random where it has more."""
LARGEST_CONTEXT, SMALLEST_CHUNK = 4096, 64
"""What the rows of mixed iterations are limited to: what chat traffic does."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| GPU | iterations | fitted | law, off-grid | forest, off-grid | law, table rows | forest, table rows |")
    print("|---|---|---|---|---|---|---|")
    for name, published, rows in _tables(asked.data):
        found: dict[Kind, list[list[float]]] = {kind: [] for kind in KINDS}
        for seed in range(asked.seeds):
            for kind, errors in _errors(published, rows, seed).items():
                found[kind].append(errors)
        for kind, errors in found.items():
            cells = [_cell([one[i] for one in errors]) for i in range(4)]
            print(f"| {name} | {kind} | {getattr(FEW, kind)} | {' | '.join(cells)} |", flush=True)


def _errors(published: Published, rows: Sequence[Point], seed: int) -> dict[Kind, list[float]]:
    """Law and forest on points off the grid, then on rows."""
    steps = published.steps
    assert steps is not None
    points = choose(steps.reach, FEW, HELD_OUT, seed)
    seconds = {point: steps.step_s(point) for point in [*points, *rows]}
    law = fit_laws(points, [seconds[point] for point in points], seed=seed)
    errors: dict[Kind, list[float]] = {}
    for kind in KINDS:
        fit, held = ([p for p in points if (p.kind, p.role) == (kind, role)] for role in ("fit", "holdout"))
        table = [point for point in rows if point.kind == kind]
        forest = RandomForestRegressor(n_estimators=500, max_depth=16, min_samples_split=2, random_state=seed)
        forest.fit(_features(fit), [seconds[point] for point in fit])
        errors[kind] = []
        for tried in (held, table):
            real = np.array([seconds[point] for point in tried])
            ours = _predict_s(law, tried)
            theirs = forest.predict(_features(tried)) if tried else np.empty(0)
            errors[kind] += [_mape(ours, real), _mape(theirs, real)]
    return errors


def _mape(predicted_s: np.ndarray, real_s: np.ndarray) -> float:
    return 100 * float(np.mean(np.abs(predicted_s / real_s - 1))) if len(real_s) else float("nan")


def _features(points: Sequence[Point]) -> np.ndarray:
    return np.array([
        [p.batch_tokens, p.batch_size, p.kv_entries, p.attended_pairs, p.decodes, p.decode_entries] for p in points
    ])  # fmt: skip


def _cell(percent: Sequence[float]) -> str:
    values = [value for value in percent if not np.isnan(value)]
    return f"{np.mean(values):.1f} % ({min(values):.1f} to {max(values):.1f})" if values else ""


def _predict_s(laws: Laws, points: Sequence[Point]) -> np.ndarray:
    """Seconds of each point by the laws."""
    prefill, decode = (law.law(law.coefficients) for law in (laws.prefill, laws.decode))
    assert laws.mixed is not None
    mixed = laws.mixed.law(laws.mixed.coefficients)
    seconds = []
    for point in points:
        if point.kind != "mixed":
            seconds.append((decode if point.kind == "decode" else prefill)(work_of(point)))
            continue
        parts = parts_s(prefill, decode, work_of(point), point.decode_entries)
        seconds.append(mixed(parts, point.new_tokens, point.decodes, point.decode_entries))
    return np.array(seconds)


def _tables(data: Path) -> Iterator[tuple[str, Published, list[Point]]]:
    """Each GPU's published kernels, and iterations whose attention was timed as it is."""
    for name, key in (("RTX 4090", "rtx4090"), ("RTX PRO 6000", "rtxpro6000")):
        path = data / "kernels" / f"{key}-llama-3.1-8b"
        published = llmservingsim.read(path, model="llama-3.1-8b", gpu=key, tp=1)
        table = pd.read_csv(path.with_name(f"{path.name}.attention.csv"))
        yield name, published, _sample(_inside(published, (_layer_point(row) for row in table.itertuples())))
    published = aiconfigurator.read(data / "published_gpu", model="llama-3.1-8b", gpu="h200", tp=1)
    steps = published.steps
    assert steps is not None
    shapes = [(batch, 2**power) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) for power in range(1, 17)]
    decodes = (Point("decode", batch, 1, context - 1, "holdout") for batch, context in shapes)
    prefills = (Point("prefill", batch, new, 0, "holdout") for batch, new in shapes if batch <= 256 and new >= 16)
    yield "H200, composed", published, _sample(_inside(published, [*decodes, *prefills]))


def _layer_point(row: Any) -> Point:
    """The iteration that a row of an attention table belongs to."""
    if not row.prefill_chunk:
        return Point("decode", row.n_decode, 1, row.kv_decode - 1, "holdout")
    kind: Kind = "mixed" if row.n_decode else "prefill"
    return Point(kind, 1, row.prefill_chunk, row.kv_prefill, "holdout", row.n_decode, row.kv_decode)


def _inside(published: Published, points: Iterable[Point]) -> list[Point]:
    """The points that a GPU could run, mixed ones as chat traffic has them."""
    assert published.steps is not None
    reach = published.steps.reach
    return [
        p
        for p in points
        if p.kv_entries + p.decode_entries <= reach.kv_entries
        and p.batch_tokens <= reach.batch_tokens
        and (p.kind != "mixed" or (p.new_tokens >= SMALLEST_CHUNK and p.decode_context_tokens <= LARGEST_CONTEXT))
    ]


def _sample(points: list[Point]) -> list[Point]:
    """At most `ROWS` of each kind."""
    rng = random.Random(0)
    by_kind = [[p for p in points if p.kind == kind] for kind in KINDS]
    return [p for group in by_kind for p in (group if len(group) <= ROWS else rng.sample(group, ROWS))]


if __name__ == "__main__":
    main()
