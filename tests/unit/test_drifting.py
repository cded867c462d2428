"""Drift as it is told: on its topic, in the status, in the log, to Home Assistant and to Prometheus."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from edge_agent.cli.status import _lines
from edge_agent.client import read_status
from edge_agent.contract.card import Metrics, ModelCard, Quantity, SelfTest
from edge_agent.contract.drift import Drift
from edge_agent.contract.messages import Message, validator
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import TakenBack
from edge_agent.serving.drifting import Drifting
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.writing import Settled
from edge_agent.testing import ROUTE, FakeClock, FakeLink, FakeModel, make_card, make_connection_settings, make_plan
from tests.unit.agents import GATHERING, warnings

pytestmark = pytest.mark.usefixtures("everything_is_logged")

HOUR = 3600.0
TOPIC = "edge/node/drift"


class Served(FakeModel):
    """A fake model that lies in a file."""

    sha256 = "ab"


class Watched:
    """A model that is watched, with a day of messages made in an instant."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.model = Served()
        self.drift = Drifting(
            {ROUTE.model: self.model},
            hours=24.0,
            interval=600.0,
            clock=self.clock,
            time=lambda: f"at {self.clock.time:g}",
        )
        self.pipeline = Pipeline([ROUTE], {ROUTE.model: self.model}, observers=self.drift.observers)
        self.source = np.random.default_rng(5)

    def day(self, low: float = 0.0, high: float = 1.0, *, each: int = 60, sensors: int = 3) -> None:
        """Answer a day's messages, with loudness between two values."""
        for _ in range(24):
            values = self.source.uniform(low, high, each).tolist()
            self.pipeline.process(
                [
                    Message(f"music/{number % sensors}/features", json.dumps({"loudness": one}).encode())
                    for number, one in enumerate(values)
                ]
            )
            self.drift.observers[ROUTE.model].count()
            self.clock.advance(HOUR)

    def look(self) -> Drift:
        told: Drift = validator(Drift).validate_python(self.drift.look())
        return told


def test_it_collects_then_is_steady() -> None:
    watched = Watched()
    watched.day()
    watched.clock.advance(-HOUR)
    told = watched.look()
    assert (told["state"], told["models"][0]["hours"], told["models"][0]["features"]) == ("collecting", 23.0, [])
    watched.clock.advance(HOUR)
    told = watched.look()
    (model,) = told["models"]
    assert told["state"] == model["state"] == "steady"
    assert model["against"] == "2 rows of training, 2026-01-01"
    assert [one["how"] for one in model["features"]] == ["as in training"]
    label, confidence = model["answers"]
    assert label["shares"] == {"Hip-Hop": pytest.approx(0.5, abs=0.05), "Rock": pytest.approx(0.5, abs=0.05)}
    assert confidence == {
        "name": "confidence",
        "drifted": False,
        "psi": None,
        "independent": confidence["independent"],
        "how": "nothing to compare with on the model card",
        "mean": 1.0,
    }


def test_it_is_told_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    watched.day(0.5, 1.0)
    told = watched.look()
    (model,) = told["models"]
    (loudness,) = model["features"]
    assert (told["state"], model["since"], loudness["drifted"]) == ("drifted", "at 86400", True)
    assert loudness["how"].startswith("higher than in training: 100 % above its median (0.5), there 50 %")
    assert model["answers"][0]["drifted"]
    watched.look()
    lines = warnings(caplog)
    assert len(lines) == 2
    assert lines[0].startswith("model genre 1.0.0: drift: loudness: higher than in training")
    watched.day()
    watched.day()
    assert watched.look()["state"] == "steady"
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.INFO][-1].endswith(
        "no drift any more: label"
    )


def test_it_is_published_retained_on_each_connection() -> None:
    watched, link = Watched(), FakeLink()
    plan = make_plan()._replace(pipeline=watched.pipeline, drift=watched.drift)
    agent = Agent(make_connection_settings(link), plan, clock=watched.clock)
    for _ in range(3):
        agent.step()
    assert TOPIC not in [one.topic for one in link.sent]
    watched.day(0.5, 1.0)
    for _ in range(3):
        agent.step()
    (said,) = [one for one in link.sent if one.topic == TOPIC]
    assert said.retain
    assert validator(Drift).validate_json(said.payload)["state"] == "drifted"
    link.retains = False
    watched.clock.advance(600.0)
    agent.step()
    assert [one.retain for one in link.sent if one.topic == TOPIC] == [True, False]
    link.arrive(Message("edge/node/request/status", b""))
    agent.step()
    agent.step()
    status = next(one for one in link.sent if one.topic == "edge/node/response/status")
    lines = list(_lines(read_status(status.payload)))
    assert any(
        line.startswith("drift       genre 1.0.0: drifted since at 86400, 1380 rows, against 2 rows") for line in lines
    )
    assert any("loudness: higher than in training: " in line for line in lines)
    last = watched.drift.last
    assert watched.drift.told() is last
    watched.clock.advance(10.0)
    assert watched.drift.told() is not last


def test_gathered_sensors_are_watched_by_the_topics_of_their_answers() -> None:
    model, clock, route = Served(make_card(("loudness", "tempo"))), FakeClock(), GATHERING._replace(debounce=0.0)
    drift = Drifting({route.model: model}, hours=24.0, interval=600.0, clock=clock, time=str)
    pipeline = Pipeline([route], {route.model: model}, observers=drift.observers)
    for name in ("loudness", "tempo"):
        pipeline.process([Message(f"home/kitchen/{name}", b"0.5")], 0.0)
    observer = drift.observers[route.model]
    observer.count()
    assert observer.watch.rows == 1
    assert list(observer.watch.streams.known) == ["comfort/kitchen"]


def test_batches_and_failures_are_counted() -> None:
    watched = Watched()
    rows = json.dumps([{"loudness": one / 100} for one in range(100)] + [{"loudness": "?"}]).encode()
    for _ in range(11):
        watched.pipeline.process([Message("music/a/features", rows)])
        watched.clock.advance(10.0)
    observer = watched.drift.observers[ROUTE.model]
    assert 1000 <= observer.watch.rows <= 1100  # without being asked: a thousand are counted at a time
    watched.model.broken = ValueError("no")
    watched.pipeline.process([Message("music/a/features", b'{"loudness": 0.5}')])
    observer.count()
    assert observer.watch.rows == 1101


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), {"sensor-0": [0.0, 0.25]}),
        ((b'{"loudness": "?"}',), {"sensor-0": [0.0, 0.25]}),
        ((b"[]", b'{"loudness": 0.75}'), {"sensor-0": [0.0, 0.25], "sensor-2": [0.75]}),
    ],
)
def test_the_rows_of_a_batch_are_those_of_its_own_sensor(
    others: tuple[bytes, ...], expected: dict[str, list[float]]
) -> None:
    """Also where there are as many rows as messages."""
    watched = Watched()
    observer = watched.drift.observers[ROUTE.model]
    payloads = (b'[{"loudness": 0.0}, {"loudness": 0.25}]', *others)
    watched.pipeline.process([Message(f"music/sensor-{number}/features", one) for number, one in enumerate(payloads)])
    seen: dict[str, list[float]] = {}
    rows, sensors, _ = observer._take()
    for topic, row in zip(sensors, rows.tolist(), strict=True):
        seen.setdefault(topic.split("/")[1], []).extend(row)
    assert seen == expected


def test_its_own_mistakes_do_not_touch_the_messages(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    for _ in range(2):
        watched.drift.observers[ROUTE.model].note(["s"], [(0.5,)], [Settled({"label": "Jazz"}, b"")])
        watched.drift.observers[ROUTE.model].count()
        watched.day()
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert line.startswith("internal error: drift of model genre is not watched any more")
    assert watched.look()["state"] == "collecting"


def test_models_of_other_tasks_are_watched() -> None:
    plain = make_card()
    shared: dict[str, Any] = {
        "features": plain.features,
        "training": plain.training,
        "metrics": Metrics(values={}, method="none"),
    }
    numbers = ModelCard(
        format=1,
        name="both",
        version="1.0.0",
        task="regression",
        outputs=(Quantity(name="a", unit="°C"), Quantity(name="b")),
        self_test=SelfTest(rows=((0.0,),), values=((0.0, 0.0),)),
        **shared,
    )
    odd = ModelCard(
        format=1,
        name="odd",
        version="1.0.0",
        task="anomaly",
        threshold=0.5,
        self_test=SelfTest(rows=((0.0,),), labels=("normal",), values=((0.0,),)),
        **shared,
    )
    answers: dict[str, list[dict[str, object]]] = {
        "both": [{"values": {"a": 1.0, "b": 2.0}}, {"values": {"a": 3.0, "b": 2.0}}],
        "odd": [{"label": "anomaly", "score": 0.7}, {"label": "normal", "score": 0.1}],
    }
    for card in (numbers, odd):
        model, clock = Served(), FakeClock()
        model.card = card
        drift = Drifting({"x": model}, hours=0.1, interval=1.0, clock=clock, time=str)  # 360 s
        for one in (answers[card.name][0], *answers[card.name]):  # the first one is gone when a window is over
            drift.observers["x"].note(["s"], [(0.1,)], [Settled(one, b"")])
            drift.observers["x"].count()
            clock.advance(120.0)
        (told,) = drift.look()["models"]
        assert [(one["name"], one.get("mean"), one.get("shares")) for one in told["answers"]] == {
            "both": [("a", 2.0, None), ("b", 2.0, None)],
            "odd": [("label", None, {"anomaly": 0.5, "normal": 0.5}), ("score", 0.4, None)],
        }[card.name]


def test_what_is_said_of_many_features_is_bounded() -> None:
    model, clock = Served(make_card([f"feature {one} {'x' * 100}" for one in range(1024)])), FakeClock()
    drift = Drifting({"x": model}, hours=24.0, interval=1.0, clock=clock, time=str)
    answer = Settled({"label": "Rock", "confidence": 1.0}, b"")
    for _ in range(24):
        drift.observers["x"].note(["s"] * 20, [(0.5,) * 1024] * 20, [answer] * 20)
        drift.observers["x"].count()
        clock.advance(HOUR)
    message = drift.message("node")
    assert message is not None
    assert len(message.payload) < 64 << 10
    assert len(json.loads(message.payload)["models"][0]["features"]) == 16


def test_where_nobody_watches_what_was_said_before_is_taken_back() -> None:
    link, clock = FakeLink(), FakeClock()
    plan = make_plan()._replace(later=(TakenBack("edge/node/drift"),))
    agent = Agent(make_connection_settings(link), plan, clock=clock)
    for _ in range(4):
        agent.step()
    (cleared,) = [one for one in link.sent if one.topic == TOPIC]
    assert (cleared.payload, cleared.retain) == (b"", True)


def test_of_very_many_rows_at_once_a_sample_is_counted() -> None:
    watched = Watched()
    watched.clock.advance(60.0)
    rows = json.dumps([{"loudness": one / 100} for one in range(100)]).encode()
    watched.pipeline.process([Message("music/a/features", rows)] * 30)
    observer = watched.drift.observers[ROUTE.model]
    observer.count()
    assert observer.watch.rows == 1000  # each third


def test_of_very_many_rows_a_second_a_sample_is_counted_of_each_sensor() -> None:
    watched = Watched()
    observer = watched.drift.observers[ROUTE.model]

    def second(rows: int, sensors: str = "music") -> int:
        """How many are counted of so many, one at a time, while 50 sensors take turns."""
        observer.count()
        before = observer.watch.rows
        for one in range(rows):
            observer.note([f"{sensors}/{one % 50}"], [(one % 100 / 100,)], [None])
            watched.clock.advance(1.0 / rows)
        watched.clock.time = round(watched.clock.time)
        observer.count()
        return observer.watch.rows - before

    assert second(100) == 100
    assert second(1000) == pytest.approx(1000, abs=300)  # so many come at once now and then
    for rows in (500, 20_000):
        second(rows, "others")
        for _ in range(3):
            assert second(rows, "others") == pytest.approx(128, abs=60)
    assert len(observer.watch.streams.known) == 100
    # The sample is as all are: evenly over the range of the card.
    (loudness, *_) = observer.watch.findings()
    assert loudness.mean == pytest.approx(0.495, abs=0.05)
    for _ in range(5):
        second(100)
    assert second(100) == 100
    watched.clock.advance(60.0)
    before = observer.watch.rows
    observer.note(["s"] * 3000, [(0.5,)] * 3000, [None] * 3000)
    observer.count()
    assert observer.watch.rows - before == 1000  # of a large batch now and then
