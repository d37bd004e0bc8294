"""The cheapest configuration that meets its objectives, and the next.

Of each line only the dearest configuration that would still be no dearer than the best so far is looked at; where that
does not meet the objectives, nothing cheaper on the line does. Otherwise the first that meets them is found by halving.
Of configurations of the same cost the one with more headroom wins, and of equals the first in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infertuner.outcomes.objectives import Judgement
from infertuner.tuning.evaluator import BudgetSpentError
from infertuner.tuning.race import Found, Race
from infertuner.tuning.space import Point

Line = list[Point]


@dataclass
class Outcome:
    """What a search found."""

    answer: Found | None = None
    fresh: Judgement | None = None
    """The answer in replications that had no say in choosing it; None where there was no time for them."""
    next_best: Found | None = None
    complete: bool = True
    """Whether the search came to its end before the budget did."""


class Search:
    """Looks along the lines of a space."""

    def __init__(self, race: Race) -> None:
        self.race = race
        self.best: Point | None = None
        """The cheapest on the lines so far."""

    def run(self, lines: Iterable[Line]) -> Outcome:
        """Find the answer, confirm it on fresh replications, and find the next-best."""
        outcome = Outcome()
        known: list[Line] = []
        try:
            self._walk(_remembered(lines, known))
            while self.best is not None:
                answer = self.best
                if self._holds(answer, outcome):
                    break
                self.best = None
                self._walk(known)
            if self.best is not None:
                outcome.next_best = self._next_best(known, self.best)
        except BudgetSpentError:
            outcome.complete = False
            meeting = [found for found in self.race.found.values() if found.meets]
            if outcome.answer is None and meeting:
                outcome.answer = min(meeting, key=lambda found: found.point.cost_per_hour)
        return outcome

    def consider(self, line: Line) -> Point | None:
        """Look along one line; the configuration that it adds to the race, if any."""
        top = _last_within(line, None if self.best is None else self.best.cost_per_hour)
        found = self._first_that_meets(line, -1, top)
        if found is not None and (self.best is None or self._beats(found, self.best)):
            self.best = found
        return found

    def _walk(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.consider(line)

    def _holds(self, point: Point, outcome: Outcome) -> bool:
        """Whether a configuration meets its objectives with all replications, and in as many fresh ones."""
        found = self.race.judge_fully(point)
        if not found.meets:
            return False
        twins = (
            other for other in self.race.found.values() if other.refuted and self.race.ran_alike(other.point, point)
        )
        if (twin := next(twins, None)) is not None:
            found.refuted, found.judgement = True, twin.judgement
            return False
        fresh = self.race.confirm(point)
        if fresh is None or fresh.verdict != "meets":
            found.refuted = True
            found.judgement = fresh or found.judgement
            return False
        outcome.answer, outcome.fresh = found, fresh
        return True

    def _next_best(self, lines: list[Line], answer: Point) -> Found | None:
        """The cheapest other configuration that meets the objectives; it is judged in the search alone."""
        best: Point | None = None
        for line in sorted(lines, key=lambda line: line[0].line != answer.line):
            after = answer.index if line[0].line == answer.line else -1
            found = self._first_that_meets(
                line, after, _last_within(line, None if best is None else best.cost_per_hour)
            )
            if found is not None and (best is None or self._beats(found, best)):
                best = found
        return None if best is None else self.race.found[best]

    def _first_that_meets(self, line: Line, after: int, top: int) -> Point | None:
        """The first configuration behind `after` and up to `top` that meets the objectives, by halving."""
        fails, meets = self._bracket(line, after, top)
        while meets is not None and meets.index - fails > 1:
            middle = line[(fails + meets.index) // 2]
            if self.race.judge(middle).meets:
                meets = middle
            else:
                fails = middle.index
        return meets

    def _bracket(self, line: Line, after: int, top: int) -> tuple[int, Point | None]:
        """A place from which down nothing meets the objectives, and a configuration above it that does, if any."""
        known = [found for point in line[after + 1 :] if (found := self.race.found.get(point)) is not None]
        fails = max([after, *(found.point.index for found in known if not found.meets)])
        meeting = [found.point for found in known if found.meets and fails < found.point.index <= top]
        if meeting or fails >= top:
            return fails, min(meeting, key=lambda point: point.index, default=None)
        places = (after + 1, top) if after >= 0 else (top,)  # right behind an answer the next is likely to do
        for index in places:
            if fails < index <= top:
                if self.race.judge(line[index]).meets:
                    return fails, line[index]
                fails = index
        return fails, None

    def _beats(self, challenger: Point, best: Point) -> bool:
        if challenger.cost_per_hour != best.cost_per_hour:
            return challenger.cost_per_hour < best.cost_per_hour
        return self.race.more_headroom(best, challenger)


def _last_within(line: Line, cost_per_hour: float | None) -> int:
    """The place of the dearest configuration of at most this cost; -1 where all are dearer."""
    if cost_per_hour is None:
        return len(line) - 1
    return max((point.index for point in line if point.cost_per_hour <= cost_per_hour), default=-1)


def _remembered(lines: Iterable[Line], known: list[Line]) -> Iterable[Line]:
    for line in lines:
        known.append(line)
        yield line
