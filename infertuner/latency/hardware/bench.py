"""Everything a calibration times: steps, copies, ceilings, generate()."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

from infertuner.errors import CalibrationError
from infertuner.latency.hardware.decoder import Decoder
from infertuner.latency.hardware.timing import device_state, is_out_of_memory
from infertuner.latency.machine import DeviceState
from infertuner.latency.measuring.extras import LARGEST_COPY_BYTES, Extra
from infertuner.latency.measuring.protocol import CannotMeasureError
from infertuner.latency.measuring.samples import Timing
from infertuner.latency.points import Point


class MachineBench:
    """A decoder and the memory around it; one visit after the other."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._device = decoder.device

    def visit(self, work: Point | Extra, target_s: float) -> Timing:
        """Time `work` for about `target_s` seconds; raises CannotMeasureError where memory does not suffice."""
        import torch

        try:
            if isinstance(work, Point):
                return self.decoder.visit(work, target_s)
            with torch.inference_mode():
                if work.kind in ("read", "matmul", "generate"):
                    target_s = min(target_s, 0.05)  # of these one good call says it all
                return self.decoder.stopwatch.time(self._call(work), target_s)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self._device == "cuda":
            torch.cuda.empty_cache()
        raise CannotMeasureError("out of memory")

    def state(self) -> DeviceState | None:
        """Clocks and temperature now, where the device tells them."""
        return device_state(self._device)

    def _call(self, extra: Extra) -> Callable[[], Any]:
        """One unit of this work."""
        match extra.kind:
            case "generate":
                return self._generate(extra)
            case "decode_eager":
                batch_size, cached_tokens = cast(int, extra.batch_size), cast(int, extra.cached_tokens)
                return self.decoder.step(Point("decode", batch_size, 1, cached_tokens, "fit"))
            case "matmul":
                return self._matmul(cast(int, extra.size))
            case "read":
                return self._read(cast(int, extra.size))
            case _:
                return self._copy(extra)

    def _generate(self, extra: Extra) -> Callable[[], Any]:
        """transformers' own loop with its own growing cache, greedy, always to the last token."""
        import torch

        shape = (cast(int, extra.batch_size), cast(int, extra.new_tokens))
        ids = torch.randint(1, self.decoder.config.vocab_size, shape, device=self._device)
        network, tokens = self.decoder.network, extra.output_tokens
        mask = torch.ones_like(ids)
        return lambda: network.generate(
            ids, attention_mask=mask, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False
        )

    def _matmul(self, side: int) -> Callable[[], Any]:
        import torch

        left, right = (torch.randn(side, side, dtype=self._dtype, device=self._device) for _ in range(2))
        return lambda: left @ right

    def _read(self, size_bytes: int) -> Callable[[], Any]:
        """A matrix times a vector reads the matrix once and hardly computes."""
        import torch

        columns = 2048
        rows = size_bytes // (columns * self._dtype.itemsize)
        matrix = torch.randn(rows, columns, dtype=self._dtype, device=self._device)
        vector = torch.randn(columns, dtype=self._dtype, device=self._device)
        return lambda: torch.mv(matrix, vector)

    def _copy(self, extra: Extra) -> Callable[[], Any]:
        """Each call copies the next stretch of a large memory, as KV blocks come from anywhere."""
        size = cast(int, extra.size)
        places = {"host": "cpu", "device": self._device}
        ends = extra.kind.split("_to_") if "_to_" in extra.kind else ("host", "host")
        source, target = (self._memory[places[end], number] for number, end in enumerate(ends))
        begin = 0

        def run() -> Any:
            nonlocal begin
            begin = begin + size if begin + 2 * size <= source.numel() else 0
            return target[begin : begin + size].copy_(source[begin : begin + size], non_blocking=True)

        return run

    @cached_property
    def _memory(self) -> dict[tuple[str, int], Any]:
        """Random bytes on either side, pinned on the host where there is CUDA: (place, 0 source or 1 target)."""
        import torch

        memory: dict[tuple[str, int], Any] = {}
        for end in (0, 1):
            for place in {"cpu", self._device}:
                pinned = place == "cpu" and self._device == "cuda"
                words = torch.empty(LARGEST_COPY_BYTES // 8, dtype=torch.int64, device=place, pin_memory=pinned)
                memory[place, end] = words.random_().view(torch.uint8)
        return memory

    @property
    def _dtype(self) -> Any:
        return self.decoder.arena[0][0].dtype


def load_weights(folder: str, dtype: Any, device: str, attention: str) -> Any:
    """The decoder in `folder` with its own weights; raises CalibrationError in one line when they cannot be loaded."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from transformers import AutoModelForCausalLM

    try:
        network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CalibrationError(f"--model: the weights in {folder} cannot be loaded ({reason})") from None
    return network.to(device).eval()
