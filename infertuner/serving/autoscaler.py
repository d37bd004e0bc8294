"""How many GPUs there should be: a policy that is asked now and then and knows neither clock nor processes."""

from __future__ import annotations

import math
from typing import Literal

from infertuner.parts import Count, NonNegative, Positive, PositiveSeconds, Seconds, part


@part
class Threshold:
    """More GPUs when requests pile up, one fewer at a time when they do not; what cluster autoscalers do by default."""

    kind: Literal["threshold"]
    min_gpus: Count
    """Fewest GPUs, serving or starting."""
    max_gpus: Count
    """Most GPUs, serving or starting."""
    scale_up_above: Positive
    """Requests waiting or running per GPU above which GPUs are added, at once as many as bring it back to this."""
    scale_down_below: NonNegative
    """Requests waiting or running per GPU below which one GPU is drained; it must be less than scale_up_above."""
    startup_s: Seconds
    """Time from the decision until an added GPU takes requests: a machine, its image, the weights."""
    interval_s: PositiveSeconds = 15.0
    """Time between two looks; the 15 s of Kubernetes' horizontal pod autoscaler."""
    cooldown_s: Seconds = 300.0
    """Time after any change in which no GPU is drained; the 300 s of the same autoscaler."""

    def __post_init__(self) -> None:
        if self.max_gpus < self.min_gpus:
            raise ValueError(f"max_gpus ({self.max_gpus}) must be at least min_gpus ({self.min_gpus})")
        if self.scale_down_below >= self.scale_up_above:
            raise ValueError(
                f"scale_down_below ({self.scale_down_below:g}) must be less than scale_up_above "
                f"({self.scale_up_above:g}), or GPUs would come and go for ever"
            )
        self._changed_at_s = -math.inf

    def decide(self, *, gpus: int, outstanding: int, now_s: float) -> int:
        """How many GPUs there should be, given `gpus` serving or starting and `outstanding` requests."""
        wanted = gpus
        if outstanding > self.scale_up_above * gpus:
            wanted = math.ceil(outstanding / self.scale_up_above)
        elif outstanding < self.scale_down_below * gpus and now_s >= self._changed_at_s + self.cooldown_s:
            wanted = gpus - 1
        wanted = min(max(wanted, self.min_gpus), self.max_gpus)
        if wanted != gpus:
            self._changed_at_s = now_s
        return wanted
