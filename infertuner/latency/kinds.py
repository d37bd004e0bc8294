"""The latency family: everything a scenario may write under `latency`.

Each part offers `model(streams)`, which reads whatever file it names, draws what it draws and returns a fresh
`LatencyModel`, and `source()`, which says in words where the seconds come from.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from infertuner.latency.fitted import Profile
from infertuner.latency.laws import PerToken
from infertuner.latency.measured import MeasuredTable, Replay

Latency: TypeAlias = Annotated[PerToken | Profile | MeasuredTable | Replay, Field(discriminator="kind")]
