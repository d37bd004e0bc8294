"""Adapter: SplitwiseSim, baseline start state, round robin, with our latency law in place of its interpolation.

Its "instance" is a server of eight GPUs with tensor parallelism, which the law does not care about. It jumps over
iterations of a constant batch at the duration of the first, so KV entries count as they were when a jump began.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
import instance
import run
import simulator
from shared import iteration_s, read_requests, report
from task import PromptTask

ROOT = os.environ["PYTHONPATH"]
COLUMNS = (
    "request_id",
    "request_type",
    "application_id",
    "arrival_timestamp",
    "batch_size",
    "prompt_size",
    "token_size",
)
events, iterations, seconds = count(), [0], [0.0]


def law(batch: list[object], **_: object) -> float:
    """Our law where the peer asks for its own."""
    prompts = [task.prompt_size for task in batch if isinstance(task, PromptTask)]
    contexts = [
        task.request.prompt_size + task.request.generated_tokens for task in batch if not isinstance(task, PromptTask)
    ]
    return iteration_s(sum(prompts), len(contexts), sum(contexts))


def watch() -> None:
    """Count events and iterations, and time the event loop; each costs well under 1 % of an event of this peer."""
    schedule, run_loop = simulator.Simulator.schedule, simulator.Simulator.run
    complete = instance.ORCAInstance.complete_iteration

    def counted(self: object, delay: float, action: object) -> object:
        next(events)
        return schedule(self, delay, action)

    def timed(self: object) -> None:
        started = time.process_time()
        run_loop(self)
        seconds[0] = time.process_time() - started

    def completed(self: object) -> None:
        iterations[0] += int(self.num_contiguous_iterations)
        complete(self)

    simulator.Simulator.schedule, simulator.Simulator.run = counted, timed
    instance.ORCAInstance.complete_iteration = completed
    instance.get_iteration_duration = law


@hydra.main(config_path=f"{ROOT}/configs", config_name="config", version_base=None)
def main(config: object) -> None:
    """Simulate and print the report."""
    run.run_simulation(config)
    metrics = [request.metrics for request in simulator.sim.trace.requests]
    took_s = [
        m.router_completion_timestamp - m.router_arrival_timestamp for m in metrics if m.router_completion_timestamp
    ]
    report(
        simulated_s=seconds[0],
        finished=len(took_s),
        e2e_mean_s=sum(took_s) / len(took_s),
        events=next(events),
        iterations=iterations[0],
    )


def write_inputs(requests: str, folder: Path) -> None:
    """The trace in the peer's columns, and an empty launcher for the one its configuration names (Ray)."""
    with (folder / "asked.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        # a request of one token has no decode task, which the peer cannot do
        rows.writerows(
            (row.request_id, 2, 0, row.arrived_at_s, 1, row.prompt_tokens, max(2, row.output_tokens))
            for row in read_requests(requests)
        )
    launcher = folder / "hydra" / "launcher" / "ray.yaml"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(
        "# @package hydra.launcher\n_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\n"
    )


if __name__ == "__main__":
    requests, gpus = sys.argv[1:3]
    watch()
    with TemporaryDirectory() as name:
        write_inputs(requests, Path(name))
        os.chdir(ROOT)
        sys.argv[1:] = [
            f"hydra.searchpath=[file://{name}]",
            f"output_dir={name}/out",
            "cluster=solo_h100",
            f"cluster.servers.1.count={gpus}",
            "performance_model=constant",
            "start_state=baseline",
            "applications.0.scheduler=round_robin",
            "applications.0.model_architecture=llama2-70b",
            "applications.0.model_size=llama2-70b-fp16",
            f"trace.path={name}/asked.csv",
            "end_time=1e12",
        ]
        main()
