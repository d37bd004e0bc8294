"""A workload replayed from a trace file."""

from __future__ import annotations

from typing import Literal

import numpy as np

from infertuner.parts import Count, FilePath, Positive, Seconds, part
from infertuner.sources import trace_formats
from infertuner.sources.requests import OpenLoop, Requests
from infertuner.streams import Streams

_READERS = {
    "csv": trace_formats.own_csv,
    "azure_2023": trace_formats.azure_2023,
    "burstgpt": trace_formats.burstgpt,
}


@part
class Trace:
    """Requests as a file recorded them, in order of arrival."""

    kind: Literal["trace"]
    path: FilePath
    """The trace file; a relative path starts at the scenario's folder."""
    format: Literal["csv", "azure_2023", "mooncake", "burstgpt"]
    """How the file is written: `csv` is InferTuner's own, the others are public traces as published."""
    block_tokens: Count = 512
    """Prompt tokens behind one hash of a `mooncake` file; other formats have none."""
    requests: Count | None = None
    """Use at most so many requests, the earliest; all of them without."""
    speedup: Positive = 1.0
    """Divide all times by this: 2 doubles the load."""
    jitter_s: Seconds = 0.0
    """Delay each request by a uniform random time up to this, in the trace's own time, before `speedup`. For coarse
    clocks: Mooncake's conversation trace has one instant every 3 seconds, and its true bursts are not that steep."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; only the jitter is random."""
        if self.format == "mooncake":
            rows = trace_formats.mooncake(self.path, self.block_tokens)
        else:
            rows = _READERS[self.format](self.path)
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
