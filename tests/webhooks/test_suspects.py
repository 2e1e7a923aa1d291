"""Events that may be the reason why Prefect has lost others: in the end only the bad ones are left."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.webhooks.suspects import Suspects

A, B = UUID(int=1), UUID(int=2)


def test_the_first_one_goes_alone_and_twice_as_many_follow_each_time_that_all_arrive() -> None:
    suspects = Suspects()
    ids = [UUID(int=number) for number in range(10)]
    suspects.add(ids)
    sizes = []
    while group := suspects.next_to_post(ids, 0):
        suspects.posted(group, 0)
        assert suspects.next_to_post([each for each in ids if each not in group], 0) == []  # it is open whether they do
        suspects.arrived(group)
        ids = [each for each in ids if each not in group]
        sizes.append(len(group))
    assert sizes == [1, 2, 4, 3]
    assert ids == []


def test_one_that_twice_does_not_arrive_while_others_do_is_left_alone_and_for_longer_each_time() -> None:
    suspects = Suspects()
    suspects.add([A])
    for now, rests_until in ((0, 0), (60, 720), (720, 1_980)):
        assert suspects.next_to_post([A], now) == [A]
        suspects.posted([A], now)
        suspects.arrived([B])
        suspects.next_to_post([A], now + 60)
        assert suspects.resting(max(now + 60, rests_until - 1)) == ({A} if rests_until else set())
        assert suspects.resting(max(now + 60, rests_until)) == set()


def test_while_nothing_arrives_none_is_left_alone_and_all_get_their_turn() -> None:
    suspects = Suspects()
    suspects.add([A, B])
    for now, turn in ((0, A), (60, B), (120, A), (180, B)):
        assert suspects.next_to_post([A, B], now) == [turn]
        suspects.posted([turn], now)


def test_one_that_is_refused_does_not_hold_up_the_others() -> None:
    suspects = Suspects()
    suspects.add([A, B])
    group = suspects.next_to_post([A, B], 0)
    suspects.refused(group, 0)
    suspects.posted(group, 0)
    assert suspects.next_to_post([A, B], 3) == [B]


def test_one_that_somebody_else_has_dealt_with_does_not_hold_up_the_others_for_ever() -> None:
    suspects = Suspects()
    suspects.add([A, B])
    suspects.posted([A], 0)
    assert suspects.next_to_post([B], 60) == []  # whether A arrives is open
    assert suspects.next_to_post([B], 1_000) == [B]


@given(st.integers(1, 30), st.sets(st.integers(0, 29), max_size=3))
def test_in_the_end_only_the_bad_ones_are_left(number: int, bad_ones: set[int]) -> None:
    suspects, now = Suspects(), 0.0
    waiting = [UUID(int=each) for each in range(number)]
    bad = {UUID(int=each) for each in bad_ones if each < number}
    suspects.add(waiting)
    posts = 0
    while set(waiting) != bad:
        posts += 1
        assert posts < 200
        if group := suspects.next_to_post(waiting, now):
            suspects.posted(group, now)
            if not bad & set(group):  # otherwise Prefect drops them all
                suspects.arrived(group)
                waiting = [each for each in waiting if each not in group]
        now += 60
