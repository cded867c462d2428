"""What waits for its answer, and how much of it one turn of the loop takes on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import Message
from edge_agent.serving.intake import MOST, Intake, cost

FEATURES = {f"feature{number}": 0.123456 for number in range(8)}
GOOD = json.dumps(FEATURES).encode()
#: An array of 10,000 empty maps: 10 kB, and a rejection each.
HOSTILE = b"\x99\x27\x10" + b"\xa0" * 10_000


def messages(payload: bytes, count: int) -> list[Message]:
    return [Message(f"music/{number}/features", payload, 1) for number in range(count)]


@pytest.mark.parametrize(
    ("payload", "rows"),
    [
        pytest.param(HOSTILE, 10_000, id="CBOR"),
        pytest.param(b"\x9f" + b"\xa0" * 10_000 + b"\xff", 10_000, id="CBOR without its length"),
        pytest.param(b"\xd9\xd9\xf7" + HOSTILE, 10_000, id="CBOR that says so"),
        pytest.param(b"[" + b"0," * 9_999 + b"0]", 10_000, id="JSON"),
        pytest.param(b"\n [" + b"{}," * 9_999 + b"{}]", 10_000, id="JSON behind white space"),
        pytest.param(b"\xef\xbb\xbf[" + b"{}," * 9_999 + b"{}]", 10_000, id="JSON behind a byte order mark"),
        pytest.param(b"\0\0\0\0" * 10_000, 10_000, id="packed"),
    ],
)
def test_no_batch_costs_less_than_its_rows(payload: bytes, rows: int) -> None:
    assert cost(payload) >= rows


@pytest.mark.parametrize("payload", [GOOD, b"21.5", b"", b"on", b"\xa1\x61\x61\x01", b"\0\0\x80\x3f" * 8])
def test_a_small_message_costs_little(payload: bytes) -> None:
    assert cost(payload) <= 20


def test_five_hundred_small_messages_are_one_slice() -> None:
    intake = Intake()
    arrived = messages(GOOD, 500)
    intake.add(arrived, 1.0)
    assert not intake.full
    assert intake.take() == (arrived, 1.0)
    assert len(intake) == 0


def test_honest_batches_share_a_slice() -> None:
    intake = Intake()
    intake.add(messages(json.dumps([FEATURES] * 100).encode(), 100), 0.0)
    slice_, _ = intake.take()
    assert len(slice_) >= 8


def test_hostile_batches_come_one_by_one_and_stop_the_reading() -> None:
    intake = Intake()
    arrived = messages(HOSTILE, 13)
    intake.add(arrived, 0.0)
    assert intake.full
    found = []
    while intake:
        slice_, _ = intake.take()
        assert len(slice_) == 1
        found += slice_
    assert found == arrived
    assert not intake.full


def test_slices_are_smaller_where_they_take_long_and_grow_again() -> None:
    intake = Intake()
    arrived = messages(GOOD, 10_000)
    intake.add(arrived, 0.0)
    sizes = []
    for seconds in (0.01, 0.3, 0.3, 0.07, 0.04, 0.04, 0.04):
        sizes.append(len(intake.take()[0]))
        intake.took(seconds)
    full, half, quarter = sizes[0], sizes[2], sizes[3]
    assert full > 1.9 * half > 3.6 * quarter
    assert sizes[4:] == [quarter, half, full]
    for _ in range(20):
        intake.took(1.0)
    assert len(intake.take()[0]) >= 40


def test_fewer_when_told_so() -> None:
    intake = Intake()
    arrived = messages(GOOD, 3)
    intake.add(arrived, 0.0)
    assert intake.take(1)[0] == arrived[:1]
    assert intake.take(5)[0] == arrived[1:]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 5)), max_size=30))
def test_whatever_comes_is_taken_once_in_order_and_within_the_budget(arriving: list[tuple[bytes, int]]) -> None:
    intake = Intake()
    arrived = [Message("t", payload * 300, times) for payload, times in arriving]
    intake.add(arrived, 0.0)
    found: list[Message] = []
    while intake:
        slice_, _ = intake.take()
        assert len(slice_) == 1 or sum(cost(one.payload) for one in slice_) <= MOST
        found += slice_
    assert found == arrived


def test_a_slice_came_when_its_first_message_did() -> None:
    intake = Intake()
    intake.add(messages(HOSTILE, 1), 1.0)
    intake.add(messages(HOSTILE, 1), 2.0)
    assert [intake.take()[1], intake.take()[1]] == [1.0, 2.0]


def test_what_there_is_no_room_for_is_lost_at_qos_0_only() -> None:
    intake = Intake()
    waiting = [message._replace(qos=0) for message in messages(HOSTILE, 50)]
    lost = intake.add(waiting, 0.0)
    assert lost == waiting[-len(lost) :]
    assert 10 < len(lost) < 40
    assert intake.add(messages(HOSTILE, 5), 0.0) == []
    assert len(intake) == 55 - len(lost)


def test_an_end_takes_all_with_it() -> None:
    intake = Intake()
    intake.add(messages(HOSTILE, 13), 1.0)
    intake.clear()
    assert (len(intake), intake.full, intake.take()) == (0, False, ([], 0.0))
