"""Who is suspected, who is convicted, and who never."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Answer, Message
from edge_agent.link.poison import Course, Poison, cause_of
from edge_agent.tally import Tally

TOPIC = "music/kitchen/features"
ANSWER = Answer("music/kitchen/genre", b'{"label":"Rock"}', 1)
LARGE = Answer("music/kitchen/genre/error", b'{"error":' + b"x" * 2000, 1)
TERM = 3600.0


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def poison(tally: Tally) -> Poison:
    return Poison(tally)


def suspect(poison: Poison, *causes: int) -> None:
    for _ in range(2):
        assert not poison.ended(set(causes), 0.0, "gone")


def attempt(poison: Poison, cause: int, answer: Answer = ANSWER, now: float = 0.0) -> bool:
    """Send it alone, and lose the connection."""
    poison.begin(cause, TOPIC)
    poison.made([answer])
    return poison.ended({cause}, now, "gone")


def convict(poison: Poison, cause: int, answer: Answer = ANSWER, now: float = 0.0) -> int:
    """Until it is; return after how many attempts."""
    attempts = 0
    while poison.course(cause, now) is Course.ALONE:
        assert attempt(poison, cause, answer, now)
        attempts += 1
    return attempts


def test_an_input_is_known_by_what_it_is() -> None:
    one = Message(TOPIC, b"1", 1, token=1)
    assert cause_of(one) == cause_of(one._replace(token=2, duplicate=True))
    for other in (
        one._replace(payload=b"2"),
        one._replace(topic="another"),
        one._replace(response_topic="r"),
        one._replace(content_type="application/cbor"),
    ):
        assert cause_of(one) != cause_of(other)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_a_long_input_is_known_by_its_size_and_its_ends(size: int) -> None:
    one = Message(TOPIC, b"x" * size, 1)
    assert cause_of(one) == cause_of(one._replace(payload=b"x" * size))
    for payload in (b"x" * (size + 1), b"y" + b"x" * (size - 1), b"x" * (size - 1) + b"y"):
        assert cause_of(one) != cause_of(one._replace(payload=payload))


def test_at_qos_0_by_where_it_comes_from() -> None:
    assert cause_of(Message(TOPIC, b"1", 0)) == cause_of(Message(TOPIC, b"2", 0)) != cause_of(Message("x", b"1", 0))


def test_nobody_is_suspected_after_one_end(poison: Poison) -> None:
    poison.ended({1, 2}, 0.0, "gone")
    assert not poison.watching
    assert poison.course(1, 0.0) is Course.USUAL


def test_two_ends_in_a_row_make_a_suspect(poison: Poison) -> None:
    poison.ended({1, 2}, 0.0, "gone")
    poison.ended({2, 3}, 0.0, "gone")
    assert [poison.course(cause, 0.0) for cause in (1, 2, 3)] == [Course.USUAL, Course.ALONE, Course.USUAL]


def test_an_end_with_nothing_under_way_says_nothing(poison: Poison) -> None:
    poison.ended({1}, 0.0, "gone")
    poison.ended(set(), 0.0, "gone")
    poison.ended({1}, 0.0, "gone")
    assert poison.course(1, 0.0) is Course.ALONE


def test_what_passes_alone_is_forgotten(poison: Poison) -> None:
    suspect(poison, 1)
    poison.begin(1, TOPIC)
    poison.made([ANSWER])
    poison.passed()
    assert not poison.watching
    poison.ended({1}, 0.0, "gone")
    assert poison.course(1, 0.0) is Course.USUAL, "one end again is not two"


def test_three_ends_alone_convict(poison: Poison, tally: Tally, caplog: pytest.LogCaptureFixture) -> None:
    suspect(poison, 1)
    assert convict(poison, 1) == 3
    assert poison.course(1, 0.0) is Course.SHORT_ALONE
    assert tally.poisoned == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("'music/kitchen/features': its answer, ")
    assert "on 'music/kitchen/genre', ended the connection each time (gone)" in line


def test_an_end_at_which_it_was_not_alone_does_not_count(poison: Poison, tally: Tally) -> None:
    suspect(poison, 1, 2)
    for _ in range(100):
        poison.begin(1, TOPIC)
        assert not poison.ended({1, 2}, 0.0, "gone")
        assert not poison.ended({1, 2}, 0.0, "gone")
    assert (poison.course(1, 0.0), tally.poisoned) == (Course.ALONE, 0)


def test_an_end_for_another_reason_does_not_count(poison: Poison, tally: Tally) -> None:
    suspect(poison, 1)
    for _ in range(10):
        poison.begin(1, TOPIC)
        poison.interrupted()
    assert tally.poisoned == 0
    assert convict(poison, 1) == 3


def test_an_end_without_it_takes_back_what_counted(poison: Poison, tally: Tally) -> None:
    """A line that is bad as well makes it take longer, no more."""
    suspect(poison, 1)
    for under_way in (set[int](), {2}):
        for _ in range(2):
            attempt(poison, 1)
        assert poison.strikes(1) == 2
        assert not poison.ended(under_way, 0.0, "gone")
        assert poison.strikes(1) == 0
    assert tally.poisoned == 0
    assert convict(poison, 1) == 3


def test_passing_once_clears_it_of_what_was_before(poison: Poison) -> None:
    suspect(poison, 1)
    for _ in range(2):
        attempt(poison, 1)
    poison.begin(1, TOPIC)
    poison.passed()
    suspect(poison, 1)
    assert convict(poison, 1) == 3


def test_a_short_rejection_that_passes_is_not_tried_again(poison: Poison) -> None:
    suspect(poison, 1)
    convict(poison, 1)
    poison.begin(1, TOPIC)
    poison.passed()
    assert poison.course(1, 0.0) is Course.SHORT


def test_a_short_rejection_that_does_not_pass_is_given_up(poison: Poison, tally: Tally) -> None:
    suspect(poison, 1)
    convict(poison, 1)
    attempt(poison, 1)
    assert poison.course(1, 0.0) is Course.SHORT_ALONE
    attempt(poison, 1)
    assert poison.course(1, 0.0) is Course.NOTHING
    assert tally.poisoned == 1


def test_while_there_are_convictions_fewer_ends_convict(poison: Poison) -> None:
    suspect(poison, 1, 2)
    assert convict(poison, 1) == 3
    assert convict(poison, 2, ANSWER._replace(topic="music/hall/genre")) == 2


def judged(poison: Poison, cause: int, answer: Answer, now: float = 0.0) -> Course:
    return poison.judge(cause, TOPIC, [answer], now, followed=False)


def test_what_goes_to_the_same_topic_is_suspected_and_then_not_tried(poison: Poison, tally: Tally) -> None:
    suspect(poison, 1)
    convict(poison, 1)
    for cause in (2, 3):
        assert judged(poison, cause, ANSWER) is Course.ALONE
        assert convict(poison, cause) == 1
    assert judged(poison, 4, ANSWER) is Course.SHORT_ALONE
    assert tally.poisoned == 4
    # What is smaller may pass: that is tried.
    assert judged(poison, 5, ANSWER._replace(payload=b"{}")) is Course.ALONE


def test_what_is_larger_than_all_that_passed_is_not_tried(poison: Poison) -> None:
    suspect(poison, 1)
    convict(poison, 1, LARGE)
    poison.sent([ANSWER])
    poison.passed()
    for cause, topic in ((2, "music/hall/genre/error"), (3, "music/attic/genre/error")):
        assert judged(poison, cause, LARGE._replace(topic=topic)) is Course.ALONE
        convict(poison, cause, LARGE._replace(topic=topic))
    assert judged(poison, 4, LARGE._replace(topic="music/cellar/genre/error")) is Course.SHORT_ALONE
    assert judged(poison, 5, ANSWER) is Course.USUAL


def test_what_passes_elsewhere_is_not_taken_for_the_like(poison: Poison) -> None:
    """A topic that is denied says nothing about others, once something as large has passed."""
    suspect(poison, 1)
    convict(poison, 1)
    other = ANSWER._replace(topic="music/elsewhere/genre")
    assert judged(poison, 2, other) is Course.ALONE, "nothing has passed yet, so it is tried"
    poison.begin(2, TOPIC)
    poison.made([other])
    poison.passed()
    assert judged(poison, 3, other) is Course.USUAL


def test_what_is_a_little_larger_than_all_that_passed_is_tried(poison: Poison) -> None:
    """Of 182 bytes where 181 were taken: that is no reason to leave an honest one without its label."""
    poison.begin(9, TOPIC)
    poison.made([ANSWER])
    poison.passed()
    little = ANSWER._replace(payload=ANSWER.payload + b" ")
    for cause in (1, 2, 3):
        suspect(poison, cause)
        convict(poison, cause, little)
    assert judged(poison, 4, little._replace(topic="music/hallway/genre")) is Course.ALONE


def test_nothing_is_left_untried_before_anything_has_passed(poison: Poison) -> None:
    for cause in (1, 2, 3):
        suspect(poison, cause)
        convict(poison, cause)
    assert judged(poison, 4, ANSWER._replace(topic="music/elsewhere/genre")) is Course.ALONE


def test_what_was_learned_is_tried_again_after_a_term(poison: Poison, tally: Tally) -> None:
    suspect(poison, 1)
    for cause in (1, 2, 3):
        judged(poison, cause, ANSWER)
        convict(poison, cause)
    assert poison.course(1, TERM - 1) is Course.SHORT_ALONE
    assert poison.course(1, TERM) is Course.ALONE
    assert judged(poison, 4, ANSWER, TERM) is Course.ALONE
    assert convict(poison, 4, now=TERM) == 1
    assert convict(poison, 1, now=TERM) == 1
    assert judged(poison, 5, ANSWER, TERM + 1) is Course.SHORT_ALONE
    assert tally.poisoned == 5, "each counts once"


def test_it_is_forgotten_in_the_end(poison: Poison) -> None:
    suspect(poison, 1, 2)
    convict(poison, 1)
    poison.ended({9}, 2 * TERM, "gone")
    assert not poison.watching


def test_what_is_remembered_is_bounded(poison: Poison) -> None:
    suspect(poison, *range(20_000))
    assert sum(poison.course(cause, 0.0) is Course.ALONE for cause in range(20_000)) == 10_000
    for number in range(1_200):
        cause = 100_000 + number
        suspect(poison, cause)
        convict(poison, cause, ANSWER._replace(topic=f"music/{number}/genre"))
    assert len(poison._kinds) <= 1_000
    assert len(poison._cases) <= 10_000
