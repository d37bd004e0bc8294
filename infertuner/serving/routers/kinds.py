"""The router family: everything a scenario may write under `cluster.router`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from infertuner.serving.routers.affinity import PrefixAffinity, SessionAffinity
from infertuner.serving.routers.least_kv import LeastKv
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin

AnyRouter: TypeAlias = Annotated[
    RoundRobin | LeastOutstanding | LeastKv | SessionAffinity | PrefixAffinity, Field(discriminator="kind")
]
