"""Which points of the space that domains span become arms; the full grid is the scenario language's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infertuner.errors import ScenarioError
from infertuner.scenario.domains import Design, DomainSpec, Point, listed_values
from infertuner.streams import Streams


def latin_hypercube(points: int) -> Design:
    """`points` points of which every domain's every n-th part holds one (McKay, Beckman and Conover, 1979).

    A key's values depend on its name and the number of points alone: another seed of the scenario asks about the same
    points, and a key more leaves the others' values where they were. Listed values are taken equally often, give or
    take one.
    """

    def design(domains: Mapping[str, DomainSpec]) -> Iterator[Point]:
        _refuse_nothing(domains)
        columns = {key: [domain.at(share) for share in _shares(key, points)] for key, domain in domains.items()}
        return ({key: column[row] for key, column in columns.items()} for row in range(points))

    return design


def one_at_a_time(domains: Mapping[str, DomainSpec]) -> Iterator[Point]:
    """The scenario as its file has it, then every value of every domain by itself."""
    _refuse_nothing(domains)
    yield {}
    for key, domain in domains.items():
        yield from ({key: value} for value in listed_values(key, domain))


def _shares(key: str, points: int) -> list[float]:
    """One number in each of `points` equal parts of [0, 1), in random order."""
    rng = Streams(0).get(f"design {key}")
    shares: list[float] = ((rng.permutation(points) + rng.random(points)) / points).tolist()
    return shares


def _refuse_nothing(domains: Mapping[str, DomainSpec]) -> None:
    if not domains:
        raise ScenarioError(
            "sweep: there is nothing to vary; add a sweep section or, for example, "
            "--set 'cluster.gpus={choices: [1, 2, 4]}'"
        )
