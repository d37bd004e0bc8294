"""Calls on a device and how long they take."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from infertuner.latency.machine import DeviceState
from infertuner.latency.measuring.samples import Timing

Device = Literal["cpu", "cuda"]
Call = Callable[[], Any]
Timed = tuple[float, float, bool]
"""Device seconds, wall seconds, and whether the core was taken away."""
WARM_S = 0.2
"""A CPU call longer than this is timed at once and once: what its caches lack at first hardly counts (2 %)."""


class Stopwatch:
    """Times calls on one device."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def time(self, call: Call, target_s: float) -> Timing:
        """Time `call` for about `target_s`, in 1 to 40 calls after a few untimed ones."""
        with denormals_flushed():
            timed = [self._warm_up(call)]
            if self.device == "cuda" or timed[0][1] < WARM_S:
                calls = min(max(round(target_s / timed[0][1]), 1), 40)
                timed = [self._timed(call) for _ in range(calls)]
        seconds, wall_s, preempted = zip(*timed, strict=True)
        return Timing(list(seconds), list(wall_s), list(preempted))

    def _warm_up(self, call: Call) -> Timed:
        """Up to 4 calls while they are cheap; the last of them.

        On CUDA 2 at least: the first call of a shape also chooses and loads kernels.
        """
        least, spent_s = (2 if self.device == "cuda" else 1), 0.0
        for number in range(1, 5):
            last = self._timed(call)
            spent_s += last[1]
            if number >= least and spent_s > 0.03:
                break
        return last

    def _timed(self, call: Call) -> Timed:
        """Device seconds, wall seconds and whether the core was taken away, of one call."""
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        if self.device == "cuda":
            seconds, wall_s = _cuda_timed(call)
        else:
            began = time.perf_counter()
            call()
            seconds = wall_s = time.perf_counter() - began
        return seconds, wall_s, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches


class Graphs:
    """CUDA graphs in one memory pool: a step without the host in between, as engines replay it.

    Graphs of one pool share their scratch memory, which is sound because they run one at a time.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._replays: dict[object, Call] = {}

    def replay(self, name: object, make: Callable[[], Call]) -> Call:
        """A call that replays what `make` made when `name` was first asked for."""
        if name not in self._replays:
            self._replays[name] = self._captured(make())
        return self._replays[name]

    def _captured(self, call: Call) -> Call:
        import torch

        new_stream: Any = torch.cuda.Stream
        aside = new_stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are chosen and work spaces made before anything is recorded
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(aside)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = call()

        def replay(_inputs: Call = call) -> Any:  # the graph reads the tensors inside `call`: they must live on
            graph.replay()
            return output

        return replay


def device_state(device: Device) -> DeviceState | None:
    """What nvidia-smi says about the GPU now; None on a CPU, or where there is no nvidia-smi."""
    if device == "cpu":
        return None
    fields = "clocks.sm,clocks.mem,temperature.gpu,power.draw"
    command = ["nvidia-smi", "--id=0", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return parse_device_state(answer)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def parse_device_state(answer: str) -> DeviceState:
    """One line of nvidia-smi; power is None where the card does not tell it. Raises ValueError for other text."""
    sm_mhz, memory_mhz, temperature_c, power = (field.strip() for field in answer.strip().split(","))
    return DeviceState(
        sm_clock_mhz=float(sm_mhz),
        memory_clock_mhz=float(memory_mhz),
        temperature_c=float(temperature_c),
        power_w=float(power) if power.replace(".", "", 1).isdecimal() else None,
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had no room for it: torch says so in one of two ways, or another error hides that one."""
    import torch

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(cause):
            return True
        cause = cause.__context__
    return False


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small for the normal format count as 0; their slow paths are not what is to be timed."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _cuda_timed(call: Call) -> tuple[float, float]:
    """Device seconds between two events around the call, and wall seconds until the host knew."""
    import torch

    new_event: Any = torch.cuda.Event
    start, end = new_event(enable_timing=True), new_event(enable_timing=True)
    began = time.perf_counter()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e-3, time.perf_counter() - began
