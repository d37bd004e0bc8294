"""A tier that may be resized: when, between which bounds, and by whom."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency
from infertuner.parts import Positive, PositiveSeconds, Ratio, part

Controller: TypeAlias = Annotated[Fluid | Frequency, Field(discriminator="kind")]


@part
class Elastic:
    """Ask a controller at every tick, and follow it within bounds when it is worth it."""

    controller: Controller
    """Who says how large the tier should be."""
    every_s: PositiveSeconds = 60.0
    """Simulated time between two decisions."""
    min_capacity_ratio: Positive = 0.1
    """The tier never shrinks below this multiple of its first capacity."""
    max_capacity_ratio: Positive = 10.0
    """The tier never grows beyond this multiple of its first capacity."""
    hysteresis_ratio: Ratio = 0.05
    """Changes smaller than this share of the present capacity are not made."""

    def __post_init__(self) -> None:
        if not self.min_capacity_ratio <= 1 <= self.max_capacity_ratio:
            raise ValueError(
                f"min_capacity_ratio ({self.min_capacity_ratio}) to max_capacity_ratio ({self.max_capacity_ratio}) "
                "must include 1, the first capacity"
            )
