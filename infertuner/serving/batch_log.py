"""What a GPU writes down about its static batches."""

from __future__ import annotations

from infertuner.records import StepColumns


class BatchLog:
    """The rows of one GPU: one for each batch, the one that it died with as far as it got."""

    def __init__(self, gpu_id: int, steps: StepColumns) -> None:
        self._gpu_id, self._steps = gpu_id, steps
        self._under_way: tuple[float, int, float, float] | None = None

    def begin(self, started_at_s: float, size: int, fetch_s: float, prefill_s: float) -> None:
        """A batch starts, standing still for `fetch_s` before its prefill."""
        self._under_way = (started_at_s, size, fetch_s, prefill_s)

    def end(self, decode_s: float) -> None:
        """The batch is done."""
        if self._under_way is not None:
            self._add(*self._under_way, decode_s)
            self._under_way = None

    def cut(self, now_s: float) -> None:
        """The GPU dies; what the batch took up to now was spent in the order fetch, prefill, decode."""
        if self._under_way is not None:
            started_at_s, size, fetch_s, prefill_s = self._under_way
            elapsed_s = now_s - started_at_s
            fetched_s = min(fetch_s, elapsed_s)
            prefilled_s = min(prefill_s, elapsed_s - fetched_s)
            self._add(started_at_s, size, fetched_s, prefilled_s, elapsed_s - fetched_s - prefilled_s)
            self._under_way = None

    def _add(self, started_at_s: float, size: int, fetch_s: float, prefill_s: float, decode_s: float) -> None:
        steps = self._steps
        steps.gpu_id.append(self._gpu_id)
        steps.started_at_s.append(started_at_s)
        steps.batch_size.append(size)
        steps.fetch_s.append(fetch_s)
        steps.prefill_s.append(prefill_s)
        steps.decode_s.append(decode_s)
