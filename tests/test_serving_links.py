"""Links by hand, and their laws: equal shares, nothing lost, and the order of equals does not matter."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.serving.clock import CLIENTS, Clock
from infertuner.serving.links import Link

GB = 10**9


def ends_s(reads, bytes_per_s=GB, latency_s=0.0):
    """When each read, (begins at ns, bytes), is complete, in seconds; and the link."""
    clock = Clock()
    link = Link(clock, bytes_per_s, latency_s)
    ended: list[float | None] = [None] * len(reads)

    def begin(number, num_bytes):
        def done():
            ended[number] = clock.now_s

        link.read(num_bytes, done)

    for number, (at_ns, num_bytes) in enumerate(reads):
        clock.call(at_ns * 10**6, CLIENTS, lambda _, n=number, b=num_bytes: begin(n, b))
    clock.run()
    return ended, link


def test_alone():
    assert ends_s([(0, 3 * GB)], latency_s=0.5)[0] == [3.5]


def test_two_at_once_take_twice_as_long():
    assert ends_s([(0, GB), (0, GB)])[0] == [2.0, 2.0]


def test_a_short_read_overtakes_a_long_one():
    """The long one is alone for 1 s, then both get half: the short one takes 2 s, the long one ends after 4 s."""
    assert ends_s([(0, 3 * GB), (10**9, GB)])[0] == [4.0, 3.0]


def test_three_that_come_one_by_one():
    """From 0: 1 GB. From 1 s: two share. From 2 s: three. Left at 2 s: 1.5, 2.5, 1; the third ends at 5 s with 0.5 and
    1.5 left, the first at 6 s, the second at 7 s."""
    assert ends_s([(0, 3 * GB), (10**9, 3 * GB), (2 * 10**9, GB)])[0] == [6.0, 7.0, 5.0]


def test_nobody_shares_with_one_that_waits_for_its_first_byte():
    """The second one's first byte comes when the first has ended."""
    assert ends_s([(0, GB), (10**9, GB)], latency_s=1.0)[0] == [2.0, 3.0]


def test_one_that_is_cancelled_gives_its_share_back_and_never_ends():
    clock = Clock()
    link = Link(clock, GB, 0.0)
    ended = []
    one = link.read(2 * GB, lambda: ended.append("one"))
    link.read(2 * GB, lambda: ended.append(clock.now_s))
    clock.call(2 * 10**15, CLIENTS, lambda _: link.cancel(one))
    clock.run()
    assert ended == [3.0]
    assert link.busy_s == 3.0
    assert link.reads == 0


def test_what_a_read_may_expect():
    clock = Clock()
    link = Link(clock, GB, 0.25)
    assert link.expected_s(GB) == 1.25
    link.read(GB, lambda: None)
    assert link.expected_s(GB) == 2.25


READS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60)), min_size=1, max_size=8)


def plain_ends_s(reads):
    """Processor sharing in fractions: bytes at one byte a ns, who is there gets 1 / n of the time that passes."""
    left = dict(enumerate(Fraction(num_bytes) for _, num_bytes in reads))
    now, ends = Fraction(0), {}
    while left:
        here = [number for number in left if reads[number][0] <= now]
        coming = min((Fraction(reads[number][0]) for number in left if reads[number][0] > now), default=None)
        if here:
            until = now + min(left[number] for number in here) * len(here)
            then = until if coming is None else min(until, coming)
            for number in here:
                left[number] -= (then - now) / len(here)
                if not left[number]:
                    ends[number] = then
        else:
            then = coming
        now = then
        left = {number: rest for number, rest in left.items() if rest}
    return [float(ends[number]) / 1e9 for number in range(len(reads))]


@given(READS)
def test_as_processor_sharing_in_fractions(reads):
    """The link rounds to femtoseconds, a millionth of the ns that a byte takes."""
    assert ends_s(reads)[0] == pytest.approx(plain_ends_s(reads), abs=1e-13)


@given(READS)
def test_busy_for_what_it_has_to_do(reads):
    """Work conservation: whatever overlaps, the link is busy for the sum of what each takes alone, to the last fs."""
    assert ends_s(reads)[1].busy_s == sum(num_bytes for _, num_bytes in reads) * 10**6 / 1e15


@given(READS, st.randoms(use_true_random=False))
def test_the_order_of_equals_does_not_matter(reads, chance):
    order = list(range(len(reads)))
    chance.shuffle(order)
    shuffled, _ = ends_s([reads[number] for number in order])
    straight, _ = ends_s(reads)
    assert [shuffled[order.index(number)] for number in range(len(reads))] == straight
