"""A real engine in real time: transformers' continuous batching, with every iteration written down.

The engine is transformers' own (`continuous_batching_context_manager`, paged attention over SDPA, first come first
served, decoding before prefilling). Nothing of it is changed; two of its methods are wrapped to note when an iteration
began and ended and what was in it. The door to torch in this room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infertuner.errors import ValidationError
from infertuner.latency.hardware import build_decoder
from infertuner.latency.model import Chunk
from infertuner.latency.profile import Calibration
from infertuner.sources.requests import OpenLoop, Requests
from infertuner.validation.engine.iterations import Iteration
from infertuner.validation.runs import Run

WARM_REQUESTS = 4
ANSWER_WITHIN_S = 120.0
"""Longest time without any answer before the engine is taken to be stuck."""


@dataclass(frozen=True)
class EngineConfig:
    """How the engine is set up, in vLLM's words."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_gpu_blocks: int


@dataclass
class _Notes:
    """What the wrapped methods write down."""

    iterations: list[Iteration] = field(default_factory=list)
    chunks: tuple[Chunk, ...] = ()
    decodes: int = 0
    kv_entries: int = 0
    forward_s: float = 0.0


class Engine:
    """A running engine. `serve` may be called again and again."""

    def __init__(self, manager: Any, vocabulary: int) -> None:
        self._manager, self._vocabulary, self._notes = manager, vocabulary, _Notes()
        self._sent = 0
        while manager.batch_processor is None:  # the engine's thread makes it
            time.sleep(0.01)
        _wrap(manager, self._notes)

    def serve(self, asked: Requests, tell: Callable[[float], None]) -> tuple[Run, list[Iteration]]:
        """Send every request at its instant, in real time; what became of them, and every iteration there was.

        Prompts are random tokens, and no answer ends before its length. `tell` is told the share of requests answered.
        """
        if not isinstance(asked.pacing, OpenLoop):
            raise ValidationError("workload.arrivals: the engine is asked at given instants; use an open loop")
        rng = np.random.default_rng(self._sent)
        prompts = [rng.integers(0, self._vocabulary, n).tolist() for n in asked.prompt_tokens.tolist()]
        self._notes.iterations.clear()
        names: list[str] = []
        answers: dict[str, Any] = {}
        start_s = time.perf_counter()
        due = zip(asked.pacing.arrived_at_s.tolist(), prompts, asked.output_tokens.tolist(), strict=True)
        for at_s, prompt, output_tokens in due:
            time.sleep(max(0.0, start_s + at_s - time.perf_counter()))
            names.append(f"request-{self._sent}")
            self._sent += 1
            self._manager.add_request(prompt, names[-1], max_new_tokens=output_tokens, record_timestamps=True)
        while len(answers) < len(names):
            answer = self._manager.get_result(timeout=ANSWER_WITHIN_S)
            if answer is None or answer.error:
                reason = answer.error if answer else f"no answer within {ANSWER_WITHIN_S:g} s"
                raise ValidationError(
                    f"engine: a request failed ({reason}); choose a smaller cluster.batcher or workload"
                )
            answers[answer.request_id] = answer
            tell(len(answers) / len(names))
        return _run(asked, [answers[name] for name in names]), list(self._notes.iterations)


@contextmanager
def running_engine(calibration: Calibration, config: EngineConfig) -> Iterator[Engine]:
    """The profile's decoder, with random weights, inside transformers' engine, warmed up."""
    import torch
    from transformers import ContinuousBatchingConfig, GenerationConfig

    hardware, model = calibration.hardware, calibration.model
    decoder = build_decoder(
        model.config, dtype=model.dtype, device=hardware.device, threads=hardware.threads, kv_tokens=1, seed=0
    )
    decoder.network.set_attn_implementation("sdpa")
    torch.set_flush_denormal(True)
    make_config: Any = GenerationConfig
    greedy = make_config(do_sample=False, eos_token_id=-1, pad_token_id=0)
    settings = ContinuousBatchingConfig(
        page_size=config.block_size,
        num_blocks=config.num_gpu_blocks,
        max_batch_tokens=config.max_num_batched_tokens,
        max_requests_per_batch=config.max_num_seqs,
        max_blocks_per_request=0,
        allow_block_sharing=False,
        use_async_batching=False,
        use_cuda_graph=False,
        auto_switch_to_flash=False,
        safety_margin=0.0,
    )
    try:
        with decoder.network.continuous_batching_context_manager(
            generation_config=greedy,
            continuous_batching_config=settings,
            warmup=False,
            timeout=ANSWER_WITHIN_S,
        ) as manager:
            engine = Engine(manager, model.config.vocab_size)
            ones = np.ones(WARM_REQUESTS, dtype=np.int64)
            warm = Requests(OpenLoop(np.zeros(WARM_REQUESTS)), ones.tolist(), ones * 64, ones * 0, ones * 8)
            engine.serve(warm, lambda _: None)
            yield engine
    finally:
        torch.set_flush_denormal(False)


def _wrap(manager: Any, notes: _Notes) -> None:
    """Note the begin, the end and the content of every iteration from now on."""
    processor = manager.batch_processor
    turn, schedule, forward = (
        manager._generation_loop_body,
        processor.scheduler.schedule_batch,
        processor._generation_step,
    )

    def noted_turn(*args: Any, **kwargs: Any) -> Any:
        notes.forward_s = 0.0
        began = time.perf_counter()
        goes_on = turn(*args, **kwargs)
        seconds = time.perf_counter() - began
        if notes.forward_s:
            content = notes.chunks, notes.decodes, notes.kv_entries
            notes.iterations.append(Iteration(seconds, notes.forward_s, *content))
        return goes_on

    def noted_schedule(*args: Any, **kwargs: Any) -> Any:
        scheduled = schedule(*args, **kwargs)
        batch = scheduled[0] or []
        decoding = [future.state for future in batch if future.state.generated_len()]
        notes.chunks = tuple(
            Chunk(future.state.position_offset, future.query_length)
            for future in batch
            if not future.state.generated_len()
        )
        notes.decodes = len(decoding)
        notes.kv_entries = sum(state.position_offset + 1 for state in decoding)
        return scheduled

    def noted_forward(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        done = forward(*args, **kwargs)
        notes.forward_s = time.perf_counter() - began
        return done

    manager._generation_loop_body = noted_turn
    processor.scheduler.schedule_batch = noted_schedule
    processor._generation_step = noted_forward


def _run(asked: Requests, answers: list[Any]) -> Run:
    """Instants on the clock of the run, 0 when its first request was sent."""
    start_s = answers[0].created_time
    stamps = [np.array(answer.timestamps) - start_s for answer in answers]
    return Run(
        arrived_at_s=np.array([answer.created_time - start_s for answer in answers]),
        first_token_at_s=np.array([stamp[0] for stamp in stamps]),
        finished_at_s=np.array([stamp[-1] for stamp in stamps]),
        prompt_tokens=asked.prompt_tokens,
        output_tokens=np.array([len(stamp) for stamp in stamps], dtype=np.int64),
        gaps_s=[np.diff(stamp) for stamp in stamps],
    )
