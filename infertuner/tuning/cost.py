"""What a configuration costs an hour: its GPUs and its cache tiers at the scenario's prices."""

from __future__ import annotations

from infertuner.cache.tiers.config import Tiered
from infertuner.errors import ScenarioError
from infertuner.scenario.model import Scenario

GB = 1e9


def is_priced(scenario: Scenario) -> bool:
    """Whether its GPUs have a price; otherwise a GPU counts 1."""
    return scenario.cluster.price_per_gpu_hour is not None


def cost_per_hour(scenario: Scenario) -> float:
    """GPUs times their price, and of tiers in bytes those too; without a price, GPUs are counted.

    Raises ScenarioError for GPUs that come and go, whose number is an outcome, and where only some have a price.
    """
    cluster = scenario.cluster
    if cluster.autoscaler is not None:
        raise ScenarioError("cluster.autoscaler: how many GPUs it starts is not known beforehand; tune cluster.gpus")
    first = cluster.price_per_gpu_hour
    if first is None and any(group.price_per_gpu_hour is not None for group in cluster.groups):
        raise ScenarioError("cluster.price_per_gpu_hour: is missing, and a group has a price; give both")
    price = 1.0 if first is None else first
    total = cluster.gpus * price
    for group in cluster.groups:
        total += group.gpus * (price if group.price_per_gpu_hour is None else group.price_per_gpu_hour)
    return total + _tiers_per_hour(scenario)


def cost_per_million_tokens(per_hour: float, output_tokens_per_s: float | None) -> float | None:
    """Cost of a million output tokens at the load that was simulated; None where nothing was put out."""
    return per_hour / (output_tokens_per_s * 3600) * 1e6 if output_tokens_per_s else None


def _tiers_per_hour(scenario: Scenario) -> float:
    if not isinstance(scenario.cache, Tiered):
        return 0.0
    total = 0.0
    for name, tier in scenario.cache.tiers.items():
        if tier.price_per_gb_hour and tier.capacity_bytes is None:
            raise ScenarioError(f"cache.tiers.{name}.price_per_gb_hour: needs capacity_bytes; entries have no price")
        copies = 1 if tier.shared else scenario.cluster.first_gpus
        total += copies * (tier.capacity_bytes or 0.0) / GB * tier.price_per_gb_hour
    return total
