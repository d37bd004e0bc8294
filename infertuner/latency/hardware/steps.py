"""One step of a decoder at a time, each really run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infertuner.latency.hardware.decoder import Decoder
from infertuner.latency.hardware.timing import denormals_flushed
from infertuner.latency.points import Point


@dataclass(frozen=True)
class DecoderSteps:
    """A decoder as `loop.Steps`: every call runs a step once."""

    decoder: Decoder

    def once_s(self, point: Point) -> float:
        """Wall seconds of one step of `point`, until the host knows its tokens.

        Making its inputs is not timed, nor is capturing a CUDA graph where calibration replays one.
        """
        step = self.decoder.quick_step(point)
        self._wait()
        began = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        """Let a CUDA device finish what it was given; a CPU has."""
        if self.decoder.device == "cuda":
            import torch

            torch.cuda.synchronize()


@contextmanager
def inference() -> Iterator[None]:
    """Steps run here as a service runs them: no gradients, numbers too small for the normal format count as 0."""
    import torch

    with denormals_flushed(), torch.inference_mode():
        yield
