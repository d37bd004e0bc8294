"""A tier that may be resized: when, between which bounds, and by whom."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from infertuner.cache.sizing.controller import SizingController
from infertuner.cache.sizing.cost_ttl import CostTtl
from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency
from infertuner.cache.sizing.frequency_coverage import FrequencyCoverage
from infertuner.cache.sizing.miss_budget import MissBudget
from infertuner.cache.sizing.miss_ratio_curve import MissRatioCurve
from infertuner.cache.sizing.published import Published
from infertuner.cache.sizing.rate_band import RateBand
from infertuner.cache.sizing.target_hit import TargetHit
from infertuner.parts import Positive, PositiveSeconds, Ratio, fresh, part
from infertuner.sources.requests import Key

Controller: TypeAlias = Annotated[
    Fluid | Frequency | RateBand | MissBudget | FrequencyCoverage | MissRatioCurve | TargetHit | CostTtl,
    Field(discriminator="kind"),
]


class Decision(NamedTuple):
    """What a tick decided."""

    capacity: int
    """In force from now on, in the unit of the tier; the present one where nothing changes."""
    feasible: bool
    """False when the controller's aim cannot be reached; the capacity is then what is worth having, within bounds."""


@part
class Elastic:
    """Ask a controller at every tick, and follow it within bounds when it is worth it.

    Whoever drives a tier calls `observe` once for each request that reaches the tier, and `decide` every `every_s` of
    simulated time; it then resizes the tier itself. `fresh(elastic)` starts over, controller included.
    """

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
        self._driven = _driven(self.controller)
        self._first_capacity: int | None = None

    @property
    def observe(self) -> Callable[[Key, int, bool, float], None]:
        """Call with (key, size, hit, now_s) for each request; the controller's own method, so that it costs no more."""
        return self._driven.observe

    def check_unit(self, in_bytes: bool) -> None:
        """Refuse a controller that cannot size a tier in this unit."""
        if in_bytes and isinstance(self.controller, Fluid | Frequency):
            raise ValueError(
                f"sizing.controller {self.controller.kind} counts entries and the tier has capacity_bytes; "
                "give capacity_entries, or another controller"
            )
        if isinstance(self.controller, CostTtl) and in_bytes != (self.controller.price_per_gb_hour is not None):
            raise ValueError(
                "sizing.controller cost_ttl must have its price in the unit of the tier: price_per_gb_hour with "
                "capacity_bytes, price_per_entry_hour with capacity_entries"
            )

    def decide(self, now_s: float, capacity: int) -> Decision:
        """The capacity from `now_s` on, given the present one; that of the first call is what the bounds refer to."""
        if self._first_capacity is None:
            self._first_capacity = capacity
        smallest = max(1, math.ceil(self.min_capacity_ratio * self._first_capacity))
        largest = max(smallest, math.floor(self.max_capacity_ratio * self._first_capacity))
        wanted, feasible = self._driven.propose(now_s, capacity)
        bounded = round(min(max(wanted, smallest), largest))
        if smallest <= capacity <= largest and abs(bounded - capacity) < self.hysteresis_ratio * capacity:
            bounded = capacity
        return Decision(bounded, feasible)


def _driven(controller: Controller) -> SizingController:
    """A controller of its own for one tier, the published policies behind an adapter."""
    own = fresh(controller)
    return Published(own) if isinstance(own, Fluid | Frequency) else own
