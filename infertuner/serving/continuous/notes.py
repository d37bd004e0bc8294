"""What an engine writes down about requests when their state changes, and about answers beyond measurement."""

from __future__ import annotations

from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import LatencyModel
from infertuner.records import CacheLevel, Records
from infertuner.serving.continuous.sequence import Sequence


class Notes:
    """The rarer columns; what every request needs at every turn the engine writes itself."""

    def __init__(self, records: Records, looks: bool) -> None:
        """`looks`: whether requests look for what others have computed, in blocks or in tiers of a cache."""
        self._requests, self._stalls, self._looks = records.requests, records.stalls, looks

    def admitted(self, chunks: list[tuple[Sequence, int]], now_s: float, batch_size: int) -> None:
        """These begin: for the first time, or again. What one lost before its first token waits for is others' work."""
        requests = self._requests
        for sequence, _ in chunks:
            row = sequence.row
            if sequence.generated:
                continue
            if sequence.lost_at_s is not None:
                requests.others_decode_s[row] += now_s - sequence.lost_at_s
                sequence.lost_at_s = None
                continue
            requests.started_at_s[row] = now_s
            requests.batch_size[row] = batch_size
            if self._looks:
                self._found(sequence)

    def _found(self, sequence: Sequence) -> None:
        """What it need not compute, and where that came from; what was fetched may have come to be of no use."""
        requests, row = self._requests, sequence.row
        requests.cached_tokens[row] = sequence.computed
        if sequence.fetched:
            requests.cache_level[row] = CacheLevel.REMOTE
            return
        requests.cache_level[row] = CacheLevel.LOCAL if sequence.computed else CacheLevel.MISS
        if requests.cache_tier[row] >= 0:
            requests.cache_tier[row], requests.prefill_saved_s[row] = -1, 0.0

    def preempted(self, sequence: Sequence, now_s: float) -> None:
        """It lost its blocks."""
        self._requests.preemptions[sequence.row] += 1
        if sequence.lost_at_s is None:
            sequence.lost_at_s = now_s

    def stood_still(self, prefilling: list[Sequence], seconds: float) -> None:
        """These stood still behind one that had to give itself up, while others decoded."""
        for sequence in prefilling:
            if not sequence.generated:
                self._requests.others_decode_s[sequence.row] += seconds

    def resumed(self, sequence: Sequence, last_token_at_s: float, next_token_at_s: float) -> None:
        """Its first token after a preemption."""
        self._stalls.request_id.append(sequence.row)
        self._stalls.last_token_at_s.append(last_token_at_s)
        self._stalls.next_token_at_s.append(next_token_at_s)
        sequence.lost_at_s = None


def note_outside(latency: LatencyModel, line: DecodeLine, kv_entries: int, steps: int) -> None:
    """Tell the latency model which of these iterations read fewer or more KV entries than were measured, if any.

    kv_entries: what the first of them reads.
    """
    decodes = line.batch_size
    below = min(steps, max(0, -((kv_entries - line.low) // decodes)))
    within = max(below, min(steps, max(0, (line.high - kv_entries) // decodes + 1)))
    if below:
        latency.note_outside(batch_size=decodes, kv_entries=kv_entries, steps=below)
    if within < steps:
        latency.note_outside(batch_size=decodes, kv_entries=kv_entries + within * decodes, steps=steps - within)
