"""The latest values of many sensors: when a row is due, and that it is never made of what is stale."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.routing.sensors import DueRow, Lack, Sensors

KITCHEN, BATH = ("kitchen",), ("bath",)
T, H = 0, 1


def make(**options: Any) -> Sensors:
    return Sensors(["temperature", "humidity"], **options)


def put(sensors: Sensors, position: int, value: float, now: float = 0.0, **options: Any) -> tuple[float, ...] | None:
    """Take one value of the kitchen's; return the row that is due."""
    reading = sensors.put(KITCHEN, [(position, value)], now, **options)
    return None if reading is None else reading.values


def lacking(sensors: Sensors, now: float = 0.0) -> list[Lack]:
    return sensors.survey(now, limit=100)[1]


def complete(sensors: Sensors, now: float) -> int:
    return sensors.survey(now, limit=0)[0]


def full(**options: Any) -> Sensors:
    """One sensor with both its values, answered."""
    sensors = make(**options)
    assert put(sensors, T, 20) is None
    put(sensors, H, 50)
    return sensors


def test_a_row_is_due_when_all_are_there_and_then_on_each_change() -> None:
    sensors = make()
    assert put(sensors, T, 20) is None
    assert put(sensors, T, 21) is None
    assert put(sensors, H, 50) == (21, 50)
    assert put(sensors, T, 22) == (22, 50)
    assert put(sensors, H, 51) == (22, 51)


def test_an_unchanged_value_says_nothing_new() -> None:
    sensors = full()
    assert put(sensors, T, 20) is None
    assert put(sensors, H, 50.0) is None
    assert put(sensors, H, 51) == (20, 51)


def test_sensors_do_not_mix() -> None:
    sensors = make()
    sensors.put(KITCHEN, [(T, 20)], 0)
    assert sensors.put(BATH, [(H, 50)], 0) is None
    assert sensors.put(BATH, [(T, 25)], 0) == DueRow((25, 50), 0)


def test_several_values_at_once_make_one_row() -> None:
    sensors = make()
    assert sensors.put(KITCHEN, [(T, 20), (H, 50)], 0) == DueRow((20, 50), 0)
    assert sensors.put(KITCHEN, [(T, 21), (H, 51)], 0) == DueRow((21, 51), 0)


def test_what_can_not_be_used_takes_the_value_before_it_away() -> None:
    sensors = full()
    sensors.drop(KITCHEN, [T])
    assert put(sensors, H, 51) is None
    assert lacking(sensors) == [Lack(KITCHEN, ["temperature"], [])]
    # The same value as before is news again.
    assert put(sensors, T, 20) == (20, 51)


def test_a_sensor_that_sends_nothing_usable_is_not_known() -> None:
    sensors = make(limit=1)
    put(sensors, T, 20)
    sensors.drop(BATH, [T])
    sensors.drop(BATH, [T, H])
    assert (len(sensors), sensors.forgotten) == (1, 0)
    sensors.drop(KITCHEN, [T])
    sensors.drop(KITCHEN, [T])
    assert (len(sensors), put(sensors, T, 1), put(sensors, H, 2)) == (1, None, (1, 2))


def test_a_value_that_is_too_old_is_not_answered_for() -> None:
    sensors = full(max_age=60)
    assert put(sensors, T, 21, 60) == (21, 50)
    assert put(sensors, T, 22, 60.1) is None
    assert lacking(sensors, 60.1) == [Lack(KITCHEN, [], ["humidity"])]
    assert complete(sensors, 60.1) == 0
    # Unchanged, but it makes the row whole again, and the change of the other one is still to be answered.
    assert put(sensors, H, 50, 61) == (22, 50)
    assert complete(sensors, 61) == 1


def test_a_row_that_was_stale_is_answered_though_nothing_changed() -> None:
    sensors = full(max_age=60)
    assert put(sensors, T, 20, 100) is None
    assert put(sensors, H, 50, 101) == (20, 50)
    assert put(sensors, H, 50, 102) is None


def test_an_unchanged_value_stays_young() -> None:
    sensors = full(max_age=60)
    for now in range(0, 600, 50):
        assert put(sensors, T, 20, now) is None
        assert put(sensors, H, 50, now) is None
    assert put(sensors, T, 21, 600) == (21, 50)


def test_a_redelivery_is_answered_though_nothing_changed() -> None:
    sensors = full()
    assert put(sensors, T, 20, duplicate=True) == (20, 50)
    assert put(sensors, H, 50, duplicate=True) == (20, 50)
    assert put(sensors, H, 50) is None
    sensors.drop(KITCHEN, [T])
    assert put(sensors, H, 50, duplicate=True) is None


def test_each_sensor_is_due_once_on_a_new_connection() -> None:
    sensors = full()
    sensors.reconnected()
    assert put(sensors, H, 50) == (20, 50)
    assert put(sensors, T, 20) is None


def test_a_retained_value_that_is_known_does_not_get_younger() -> None:
    sensors = full(max_age=60)
    assert put(sensors, T, 20, 50, retained=True) is None
    assert put(sensors, H, 50, 50) is None
    assert complete(sensors, 61) == 0
    # What the broker kept while we were away is news.
    assert put(sensors, T, 25, 61, retained=True) == (25, 50)
    assert put(sensors, T, 25, 100, retained=True) is None
    sensors.reconnected()
    assert put(sensors, H, 50, 120) == (25, 50)
    assert put(sensors, T, 25, 122, retained=True) is None


def test_the_answer_has_the_highest_qos_of_its_values() -> None:
    sensors = make()
    sensors.put(KITCHEN, [(T, 1)], 0, qos=1)
    assert sensors.put(KITCHEN, [(H, 1)], 0, qos=0) == DueRow((1, 1), 1)
    assert sensors.put(KITCHEN, [(H, 2)], 0, qos=0) == DueRow((1, 2), 0)


def due(sensors: Sensors, now: float, **options: Any) -> list[tuple[float, ...]]:
    return [reading.values for _, reading in sensors.due(now, **{"limit": 100, **options})]


def test_debounce_answers_once_that_long_after_the_first_change() -> None:
    sensors = make(debounce=2)
    assert put(sensors, T, 20, 0) is None
    assert sensors.next_due is None
    assert put(sensors, H, 50, 10) is None
    assert sensors.next_due == 12
    # A steady stream does not put it off.
    for tenth in range(101, 120):
        assert put(sensors, T, tenth, tenth / 10) is None
    assert due(sensors, 11.9) == []
    assert due(sensors, 12) == [(119, 50)]
    assert (sensors.next_due, due(sensors, 100)) == (None, [])
    put(sensors, T, 119, 13)
    assert sensors.next_due is None
    put(sensors, T, 120, 14)
    assert sensors.next_due == 16


def test_debounced_rows_come_in_order_and_no_more_than_asked_for() -> None:
    sensors = make(debounce=2)
    for number in range(5):
        sensors.put((str(number),), [(T, number), (H, 0)], number, qos=number % 2)
    assert list(sensors.due(4, limit=2)) == [(("0",), DueRow((0, 0), 0)), (("1",), DueRow((1, 0), 1))]
    assert due(sensors, 4, limit=0) == due(sensors, 4, limit=-1) == []
    assert due(sensors, 4) == [(2, 0)]
    assert due(sensors, 4, ahead=math.inf) == [(3, 0), (4, 0)]


@pytest.mark.parametrize("spoil", ["drop", "age"])
def test_a_debounced_row_is_not_answered_once_it_is_stale(spoil: str) -> None:
    sensors = full(debounce=2, max_age=10)
    assert due(sensors, 2) == [(20, 50)]
    put(sensors, T, 21, 9)
    if spoil == "drop":
        sensors.drop(KITCHEN, [H])
        assert sensors.next_due is None
    assert due(sensors, 11) == []
    # The change is still to be answered, and is once the row is whole again.
    put(sensors, H, 50, 12)
    assert due(sensors, 14) == [(21, 50)]


def test_the_least_recently_heard_is_forgotten_first() -> None:
    sensors = make(limit=2, debounce=1)
    sensors.put(("a",), [(T, 1), (H, 1)], 0)
    sensors.put(("b",), [(T, 1), (H, 1)], 0)
    sensors.drop(("a",), [T])
    sensors.put(("c",), [(T, 1)], 0)
    assert [lack.sensor for lack in lacking(sensors)] == [("a",), ("c",)]
    assert (len(sensors), sensors.forgotten) == (2, 1)
    # With it goes what it was to be answered.
    assert due(sensors, 10) == []


def test_memory_is_bounded_whatever_comes() -> None:
    sensors = make(limit=100, debounce=1, max_age=10)
    for number in range(10_000):
        sensors.put((str(number),), [(T, number), (H, number)], number / 100)
        list(sensors.due(number / 100, limit=10))
    assert (len(sensors), sensors.forgotten) == (100, 9_900)
    assert len(sensors._due) <= 100
    assert sys.getsizeof(sensors._known) < 100_000


def test_what_is_named_of_a_sensor_is_bounded() -> None:
    sensors = Sensors([str(number) for number in range(1000)])
    sensors.put(KITCHEN, [(0, 1.0)], 0)
    (lack,) = lacking(sensors)
    assert lack.missing == [str(number) for number in range(1, 33)]


EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from([KITCHEN, BATH]),
            st.sampled_from([T, H]),
            st.sampled_from([0.0, 1.0, 2.0]),
            st.booleans(),
        ),
        st.tuples(st.just("drop"), st.sampled_from([KITCHEN, BATH]), st.sampled_from([T, H])),
        st.tuples(st.just("wait"), st.integers(0, 7)),
        st.tuples(st.just("reconnect")),
    ),
    max_size=40,
)


class Plain:
    """The rules once more, the plainest way: the latest value of each feature, and what was told last of a sensor."""

    def __init__(self, max_age: float | None) -> None:
        self.max_age = math.inf if max_age is None else max_age
        self.now = 0.0
        self.latest: dict[tuple[str, ...], dict[int, tuple[float, float]]] = {KITCHEN: {}, BATH: {}}
        self.told: dict[tuple[str, ...], tuple[float, ...] | None] = {KITCHEN: None, BATH: None}

    def row(self, sensor: tuple[str, ...]) -> tuple[float, ...] | None:
        values = self.latest[sensor]
        if len(values) < 2 or any(self.now - heard > self.max_age for _, heard in values.values()):
            return None
        return values[T][0], values[H][0]

    def tell(self, sensor: tuple[str, ...], reading: DueRow) -> None:
        assert reading.values == self.row(sensor)
        self.told[sensor] = reading.values

    def compare(self, sensors: Sensors) -> None:
        assert complete(sensors, self.now) == sum(self.row(one) is not None for one in (KITCHEN, BATH))
        for lack in lacking(sensors, self.now):
            assert self.row(lack.sensor) is None
            assert lack.missing or lack.stale


@given(events=EVENTS, max_age=st.sampled_from([None, 5.0]), debounce=st.sampled_from([0.0, 3.0]))
def test_a_row_is_always_made_of_the_latest_values_and_no_change_is_passed_over(
    events: list[Any], max_age: float | None, debounce: float
) -> None:
    sensors, plain = make(max_age=max_age, debounce=debounce), Plain(max_age)
    for kind, *arguments in events:
        if kind == "put":
            sensor, position, value, duplicate = arguments
            plain.latest[sensor][position] = (value, plain.now)
            reading = sensors.put(sensor, [(position, value)], plain.now, duplicate=duplicate)
            if reading is not None:
                assert not debounce
                plain.tell(sensor, reading)
            elif not debounce and plain.row(sensor) is not None:
                assert (plain.told[sensor], duplicate) == (plain.row(sensor), False)
        elif kind == "drop":
            sensor, position = arguments
            plain.latest[sensor].pop(position, None)
            sensors.drop(sensor, [position])
        elif kind == "wait":
            plain.now += arguments[0]
        else:
            sensors.reconnected()
        for sensor, reading in sensors.due(plain.now, limit=10):
            plain.tell(sensor, reading)
        assert sensors.next_due is None or plain.now < sensors.next_due <= plain.now + debounce
        plain.compare(sensors)
    # What still waits tells the latest, and after it everything that is whole has been told.
    for sensor, reading in sensors.due(plain.now, limit=10, ahead=math.inf):
        plain.tell(sensor, reading)
    for sensor in (KITCHEN, BATH):
        assert plain.row(sensor) in {None, plain.told[sensor]}
