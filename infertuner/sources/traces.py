"""A workload replayed from a trace file."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from infertuner.errors import TraceError
from infertuner.parts import Count, FilePath, Positive, PositiveSeconds, Seconds, part
from infertuner.sources import trace_formats, trace_mooncake
from infertuner.sources.arrivals import Arrivals
from infertuner.sources.requests import OpenLoop, Requests
from infertuner.sources.trace_detect import format_of
from infertuner.sources.trace_rows import Rows
from infertuner.streams import Streams

_CSV = {
    "csv": trace_formats.own_csv,
    "azure_2023": trace_formats.azure,
    "azure_2024": trace_formats.azure,
    "burstgpt": trace_formats.burstgpt,
}
_JSON_LINES = {"mooncake": trace_mooncake.mooncake, "aiperf": trace_mooncake.aiperf}


@part
class Trace:
    """Requests as a file recorded them, in order of arrival."""

    kind: Literal["trace"]
    path: FilePath
    """The trace file; a relative path starts at the scenario's folder."""
    format: Literal["csv", "azure_2023", "azure_2024", "burstgpt", "mooncake", "aiperf"] | None = None
    """How the file is written: `csv` is InferTuner's own, `aiperf` and `mooncake` (vLLM's timed_trace too) are JSON
    lines, the others are public traces as published. Without it the names of the file's columns tell."""
    block_tokens: Count = 512
    """Prompt tokens behind one hash of a `mooncake` or `aiperf` file (vLLM: --timed-trace-chunk-hash-size); other
    formats have none."""
    timestamp_unit_s: PositiveSeconds = 0.001
    """How long a timestamp or delay of 1 is in a `mooncake` or `aiperf` file (vLLM: --timed-trace-sec-multiplier).
    Mooncake's and AIPerf's are milliseconds; vLLM and GuideLLM read seconds unless told otherwise."""
    requests: Count | None = None
    """Use at most so many requests, the earliest; all of them without."""
    speedup: Positive = 1.0
    """Divide all times by this: 2 doubles the load."""
    jitter_s: Seconds = 0.0
    """Delay each request by a uniform random time up to this, in the trace's own time, before `speedup`. For coarse
    clocks: Mooncake's conversation trace has one instant every 3 seconds, and its true bursts are not that steep."""

    arrivals: Arrivals | None = None
    """Send at the instants of this law instead of the file's, each time a request of the file drawn at random, with its
    prompt and answer: replications then differ, and the load is what the law says. `requests` says how many are sent,
    as many as the file has without it; `speedup` and `jitter_s` do not matter."""
    prompt_scale: Positive = 1.0
    """Multiply all prompts by this and round."""
    output_scale: Positive = 1.0
    """Multiply all answers by this and round."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; without `arrivals` only the jitter is random."""
        rows = self._scaled(self._rows())
        if self.arrivals is not None:
            return self._drawn(rows, self.arrivals, streams)
        rows = rows.take(np.argsort(rows.at_s, kind="stable")[: self.requests])
        at_s = rows.at_s + self.jitter_s * streams.get("arrivals").random(len(rows.at_s))
        order = np.argsort(at_s, kind="stable")
        rows = rows.take(order)
        return Requests(
            pacing=OpenLoop(at_s[order] / self.speedup),
            session_id=rows.session_id.tolist(),
            prompt_tokens=rows.prompt_tokens,
            prefix_tokens=rows.prefix_tokens,
            output_tokens=rows.output_tokens,
            blocks=rows.blocks,
            priority=rows.priority,
        )

    def _drawn(self, rows: Rows, arrivals: Arrivals, streams: Streams) -> Requests:
        """Requests of the file in random order, with replacement, at the instants of a law."""
        self._refuse_prefixes(rows, "arrivals")
        n = self.requests or len(rows.at_s)
        rows = rows.take(streams.get("rows").integers(len(rows.at_s), size=n))
        return Requests(
            pacing=arrivals.sample(n, streams.get("arrivals")),
            session_id=list(range(n)),
            prompt_tokens=rows.prompt_tokens,
            prefix_tokens=rows.prefix_tokens,
            output_tokens=rows.output_tokens,
            priority=rows.priority,
        )

    def _scaled(self, rows: Rows) -> Rows:
        if self.prompt_scale == self.output_scale == 1:
            return rows
        if self.prompt_scale != 1:
            self._refuse_prefixes(rows, "prompt_scale")
        prompt_tokens, output_tokens = (
            np.maximum(1, np.rint(tokens * scale)).astype(np.int64)
            for tokens, scale in ((rows.prompt_tokens, self.prompt_scale), (rows.output_tokens, self.output_scale))
        )
        return replace(rows, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    def _refuse_prefixes(self, rows: Rows, key: str) -> None:
        if rows.blocks is not None or rows.prefix_tokens.any():
            raise TraceError(f"{self.path}: says which prompts share a prefix, which {key} would break; remove {key}")

    def _rows(self) -> Rows:
        form = self.format or format_of(self.path)
        if form in _CSV:
            return _CSV[form](self.path)
        return _JSON_LINES[form](self.path, self.block_tokens, self.timestamp_unit_s)
