"""The results of each benchmark as rows of answered requests; None stands for a request that failed."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infertuner.errors import ValidationError
from infertuner.validation.file_rows import Row, field, number, numbers, parsed, whole

COLUMNS = ("arrived_at_s", "first_token_at_s", "finished_at_s", "prompt_tokens", "output_tokens")
"""What a CSV of measured requests must have; `requests.parquet` of a run folder has the same names."""
VLLM_ARRAYS = ("ttfts", "itls", "input_lens", "output_lens")
NS_PER = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "sec": 10**9}

Rows = Iterator[Row | None]


def csv_rows(text: str, name: str, columns: Mapping[str, str]) -> Rows:
    """Rows of a CSV; one without a finish or a first token is a failed request."""
    theirs = {ours: columns.get(ours, ours) for ours in COLUMNS}
    reader = csv.DictReader(text.splitlines())
    present = reader.fieldnames or ()
    for ours, there in theirs.items():
        if there not in present:
            raise ValidationError(
                f"{name}: no column {there!r} for {ours}; it has {', '.join(present)}. "
                f"Name the right one with --column {ours}=NAME"
            )
    for cells in reader:
        where = f"{name}, line {reader.line_num}"
        if not (cells[theirs["first_token_at_s"]] and cells[theirs["finished_at_s"]]):
            yield None
            continue
        at, first, end = (number(where, theirs[ours], cells[theirs[ours]]) for ours in COLUMNS[:3])
        prompt, output = (whole(where, theirs[ours], cells[theirs[ours]]) for ours in COLUMNS[3:])
        yield Row(where, at, first, end, prompt, output)


def vllm_rows(content: Mapping[str, Any], name: str) -> Rows:
    """Requests of `vllm bench serve --save-detailed`; an error, or no output, is a failed request."""
    return _array_rows(
        content, name, ("start_times", *VLLM_ARRAYS), "vllm bench serve with --save-result --save-detailed"
    )


def sglang_rows(content: Mapping[str, Any], name: str) -> Rows:
    """Requests of sglang's `bench_serving --output-details`, which does not say when it sent them: all begin at 0."""
    return _array_rows(content, name, VLLM_ARRAYS, "sglang.bench_serving with --output-details")


def _array_rows(content: Mapping[str, Any], name: str, arrays: Sequence[str], tool: str) -> Rows:
    for array in arrays:
        if not isinstance(content.get(array), list):
            raise ValidationError(f"{name}: no array {array!r}; run {tool}, which writes it")
    lengths = {array: len(content[array]) for array in arrays}
    if len(set(lengths.values())) > 1:
        raise ValidationError(f"{name}: arrays differ in length ({lengths}); the file is damaged, measure again")
    errors = content.get("errors") or [""] * lengths["ttfts"]
    sent = content["start_times"] if "start_times" in arrays else [0.0] * lengths["ttfts"]
    for i, (start, ttft, itl, prompt, output) in enumerate(
        zip(sent, *(content[array] for array in VLLM_ARRAYS), strict=True)
    ):
        where = f"{name}, request {i}"
        if (i < len(errors) and errors[i]) or not output:
            yield None
            continue
        gaps_s = numbers(where, "itls", itl)
        start_s = number(where, "start_times", start)
        first_s = start_s + number(where, "ttfts", ttft)
        prompt_tokens, output_tokens = whole(where, "input_lens", prompt), whole(where, "output_lens", output)
        yield Row(where, start_s, first_s, first_s + sum(gaps_s), prompt_tokens, output_tokens, gaps_s)


def aiperf_rows(text: str, name: str) -> Rows:
    """Requests of AIPerf's `profile_export.jsonl`; warm-up is skipped, an error is a failed request."""
    for line_number, line in enumerate(text.splitlines(), start=1):
        where = f"{name}, line {line_number}"
        if not line.strip():
            continue
        record = parsed(line, where)
        metadata, metrics = (record.get(key) if isinstance(record, dict) else None for key in ("metadata", "metrics"))
        if not isinstance(metadata, dict) or not isinstance(metrics, dict):
            raise ValidationError(f"{where}: no metadata and metrics; give aiperf's profile_export.jsonl")
        if metadata.get("benchmark_phase", "profiling") != "profiling":
            continue
        if record.get("error"):
            yield None
            continue
        start_s = number(where, "request_start_ns", metadata.get("request_start_ns")) / NS_PER["s"]
        ttft_s = _quantity(where, metrics, "time_to_first_token")
        e2e_s = _quantity(where, metrics, "request_latency")
        prompt, output = (_size(where, metrics, f"{side}_sequence_length") for side in ("input", "output"))
        yield Row(where, start_s, start_s + ttft_s, start_s + e2e_s, prompt, output, _chunk_gaps_s(where, metrics))


def _chunk_gaps_s(where: str, metrics: Mapping[str, Any]) -> tuple[float, ...]:
    """Every gap between chunks, where the file has them."""
    metric = metrics.get("inter_chunk_latency")
    if not isinstance(metric, dict) or metric.get("unit") not in NS_PER:
        return ()
    seconds = NS_PER[metric["unit"]] / NS_PER["s"]
    return tuple(seconds * gap for gap in numbers(where, "inter_chunk_latency", metric.get("value")))


def _quantity(where: str, metrics: Mapping[str, Any], name: str) -> float:
    """Seconds of an AIPerf metric, which carries its unit."""
    metric = metrics.get(name)
    unit = metric.get("unit") if isinstance(metric, dict) else None
    if not isinstance(metric, dict) or unit not in NS_PER:
        raise ValidationError(f"{where}: {name} is {metric!r}; must have a value and a unit such as ms")
    return number(where, name, metric.get("value")) * NS_PER[unit] / NS_PER["s"]


def _size(where: str, metrics: Mapping[str, Any], name: str) -> int:
    metric = metrics.get(name)
    return whole(where, name, metric.get("value") if isinstance(metric, dict) else None)


def guidellm_rows(content: Mapping[str, Any], name: str) -> Rows:
    """Requests of GuideLLM's `benchmarks.json`; errored and incomplete ones have failed.

    A request ends with its last token, as in vLLM's benchmark; GuideLLM's own latency goes on to the end of the stream.
    """
    benchmarks = field(name, content, "benchmarks")
    if not isinstance(benchmarks, list) or len(benchmarks) != 1:
        count = len(benchmarks) if isinstance(benchmarks, list) else 0
        raise ValidationError(f"{name}: holds {count} benchmarks; give a file with one rate or strategy")
    requests = field(name, benchmarks[0], "requests")
    for kind in ("errored", "incomplete"):
        for _ in requests.get(kind) or ():
            yield None
    for i, record in enumerate(field(name, requests, "successful")):
        where = f"{name}, request {i}"
        start_s = number(where, "request_start_time", record.get("request_start_time"))
        ttft_s = number(where, "time_to_first_token_ms", record.get("time_to_first_token_ms")) / 1e3
        last_s = field(where, record, "info", "timings").get("last_token_iteration") or record.get("request_end_time")
        prompt, output = (whole(where, key, record.get(key)) for key in ("prompt_tokens", "output_tokens"))
        yield Row(where, start_s, start_s + ttft_s, number(where, "request_end_time", last_s), prompt, output)


def inference_perf_rows(content: Sequence[Any], name: str) -> Rows:
    """Requests of inference-perf's `per_request_lifecycle_metrics.json`, up to their last tokens.

    An error, or no token, is a failed request.
    """
    for i, record in enumerate(content):
        where = f"{name}, request {i}"
        if not isinstance(record, dict) or "info" not in record:
            raise ValidationError(f"{where}: has no info; give inference-perf's per_request_lifecycle_metrics.json")
        if record.get("error"):
            yield None
            continue
        at_s = number(where, "start_time", record.get("start_time"))
        tokens_s = numbers(
            where, "output_token_times", field(where, record, "info", "response_metrics", "output_token_times")
        )
        if not tokens_s:
            yield None
            continue
        prompt = whole(where, "input_tokens", field(where, record, "info", "input_tokens"))
        output = whole(where, "output_tokens", field(where, record, "info", "response_metrics", "output_tokens"))
        gaps_s = tuple(after - before for before, after in itertools.pairwise(tokens_s))
        yield Row(where, at_s, tokens_s[0], tokens_s[-1], prompt, output, gaps_s)
