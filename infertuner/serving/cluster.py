"""What serves: how many GPUs, how requests are spread over them and batched on each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infertuner.parts import Count, Seconds, part
from infertuner.serving.batchers import AnyBatcher
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.routers import AnyRouter


@part
class Cluster:
    """Equal GPUs behind one router."""

    gpus: Count
    """How many GPUs."""
    router: AnyRouter
    """Which GPU a request goes to."""
    batcher: Annotated[AnyBatcher | Continuous | PrefillFirst, Field(discriminator="kind")]
    """How each GPU forms batches."""
    startup_s: Seconds = 0.0
    """Time from the start of the run until a GPU can serve; requests queue meanwhile."""
