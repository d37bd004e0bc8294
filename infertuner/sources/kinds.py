"""The workloads a scenario can choose from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infertuner.sources.published import PublishedBasic, PublishedBatching, PublishedCacheAware
from infertuner.sources.synthetic import Synthetic
from infertuner.sources.traces import Trace

WorkloadKind = Annotated[
    Synthetic | Trace | PublishedBasic | PublishedBatching | PublishedCacheAware,
    Field(discriminator="kind"),
]
