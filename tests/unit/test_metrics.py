"""Metrics: what they say, and when the file is written and taken away."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.messages import ErrorCode, Message, Refused
from edge_agent.contract.templates import Template
from edge_agent.errors import BrokerError
from edge_agent.routing.routes import Route
from edge_agent.tally import BOUNDS, Counts
from edge_agent.testing import FakeLink, FakeModel, make_card, make_plan
from tests.unit.agents import FEATURES, GATHERING, GOOD, HeardNotifier, ended, value, warnings
from tests.unit.exposed import DESCRIBED, IN, OUT, read, told

pytestmark = pytest.mark.usefixtures("everything_is_logged")


def test_names_follow_the_conventions() -> None:
    found = told([("genre", IN, OUT, Counts())], gathered={"sensors": 1, "complete": 1, "forgotten": 0, "ignored": 0})
    assert len(found.kinds) > 20
    for name, kind in found.kinds.items():
        assert re.fullmatch("edge_agent_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search("_(ms|milliseconds|kb|mb|percent|count|sum|bucket)$", name)


def test_versions_and_models() -> None:
    found = told()
    assert found.value("info", node="pi-1", version="1.2.3", python="3.13.1", onnxruntime="1.21.0", mqtt="5") == 1
    model = {"model": "genre", "version": "1.0.0", "sha256": "ab", "task": "classification"}
    assert found.value("model_info", node="pi-1", **model) == 1


def test_the_temperature_is_there_where_the_machine_tells_it() -> None:
    assert told(temperature=48.3).value("temperature_celsius", node="pi-1") == 48.3
    assert told().values("temperature_celsius") == []


@pytest.mark.parametrize("state", ["online", "degraded", "offline"])
def test_a_node_is_in_one_state(state: str) -> None:
    found = told(state=state)
    assert found.value("state", state=state) == 1
    assert sum(found.values("state")) == 1
    assert len(found.values("state")) == 3


def test_every_series_is_there_before_anything_happens() -> None:
    found = told([("genre", IN, OUT, Counts())])
    labels = {"node": "pi-1", "model": "genre", "route": IN}
    assert found.value("predictions_total", **labels) == 0
    for code in ErrorCode:
        assert found.value("rejections_total", **labels, error=code) == 0
    assert found.values("latency_seconds_bucket", **labels) == [0] * (len(BOUNDS) + 1)
    assert found.value("latency_seconds_count", **labels) == 0


def test_buckets_are_cumulative_up_to_infinity() -> None:
    counts = Counts()
    counts.latencies[0], counts.latencies[2], counts.latencies[-1], counts.seconds = 4, 2, 1, 99.5
    found = told([("genre", IN, OUT, counts)])
    assert found.value("latency_seconds_bucket", le="0.0005") == 4
    assert found.value("latency_seconds_bucket", le="0.0025") == 6
    assert found.value("latency_seconds_bucket", le="10.0") == 6
    assert found.value("latency_seconds_bucket", le="+Inf") == found.value("latency_seconds_count") == 7
    assert found.value("latency_seconds_sum") == 99.5


def test_routes_of_one_model_with_the_same_topics_in_are_told_apart() -> None:
    other = "music/{sensor}/other"
    found = told([("genre", IN, OUT, Counts()), ("genre", IN, other, Counts()), ("mood", IN, OUT, Counts())])
    routes = [labels["route"] for name, labels, _ in found.samples if name == "edge_agent_predictions_total"]
    assert routes == [f"{IN} -> {OUT}", f"{IN} -> {other}", IN]


def test_no_series_is_there_twice() -> None:
    (model,) = DESCRIBED["models"]
    other = {**model, "version": "2.0.0", "sha256": "cd"}
    shares = [("genre", *topics, Counts()) for topics in ((IN, OUT), (f"{IN} -> {OUT}", "x"), (IN, "y"))]
    found = told(shares, described={**DESCRIBED, "models": [model, other, dict(model)]})
    series = [(name, *sorted(labels.items())) for name, labels, _ in found.samples]
    assert len(series) == len(set(series))
    assert found.values("model_info") == [1, 1]
    assert len(found.values("predictions_total")) == 3


@given(st.text(), st.text(), st.text())
def test_whatever_names_contain_is_given_back(node: str, model: str, route: str) -> None:
    described = {**DESCRIBED, "node": node, "models": [{**DESCRIBED["models"][0], "name": model}]}
    found = told([(model, route, OUT, Counts())], described=described)
    assert found.value("model_info", node=node, model=model) == 1
    assert found.value("predictions_total", node=node, model=model, route=route) == 0


# -- the file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge-agent.prom"


def test_the_agent_writes_what_it_did(file: Path) -> None:
    link = FakeLink()
    agent, clock = ended(link, textfile=file)
    agent.step()
    assert read(file.read_text()).value("state", state="offline") == 1, "it is there from the start"
    link.arrive(
        Message(FEATURES, GOOD, 1), Message(FEATURES, GOOD, 1), Message(FEATURES, b"?", 1), Message(FEATURES, b"")
    )
    agent.step()
    clock.advance(30)
    link.in_flight = 7
    agent.step()
    found = read(file.read_text())
    labels = {"node": "node", "model": "genre", "route": IN}
    assert found.value("predictions_total", **labels) == 2
    assert found.value("rejections_total", **labels, error="malformed_payload") == 1
    assert found.value("messages_ignored_total", **labels) == 1
    assert found.value("latency_seconds_count", **labels) == 3
    assert found.value("messages_received_total", node="node") == 4
    assert found.value("connections_total") == 1
    assert found.value("state", state="online") == 1
    assert found.value("messages_in_flight") == 7
    assert found.value("uptime_seconds") == 30
    assert found.value("resident_memory_bytes") > 1e6


def test_latencies_are_those_of_messages(file: Path) -> None:
    link = FakeLink()
    agent, clock = ended(link, textfile=file, model=Slow())
    agent.step()
    Slow.clock = clock
    link.arrive(Message(FEATURES, GOOD, 1), Message(FEATURES, GOOD, 1))
    agent.step()
    clock.advance(30)
    agent.step()
    found = read(file.read_text())
    assert (found.value("latency_seconds_count"), found.value("latency_seconds_sum")) == (2, 0.06)
    assert found.value("latency_seconds_bucket", le="0.025") == 0
    assert found.value("latency_seconds_bucket", le="0.05") == 2


def test_latencies_go_to_the_route_of_each_message(file: Path) -> None:
    """Of routes that ask the same, and of one that gathers, too."""
    routes = [
        Route(
            "genre",
            Template(f"{one}/{{s}}/x"),
            Template(f"out/{one}/{{s}}"),
            Template(f"err/{one}/{{s}}"),
            min_confidence=least,
        )
        for one, least in (("a", 0.0), ("b", 0.0), ("c", 0.5))
    ]
    gathers = Route("genre", Template("d/{s}/{feature}"), Template("out/d/{s}"), Template("err/d/{s}"))
    link = FakeLink()
    agent, clock = ended(link, textfile=file, routes=[*routes, gathers])
    agent.step()
    for count, topic in enumerate(("a/k/x", "b/k/x", "c/k/x"), 1):
        link.arrive(*[Message(topic, GOOD, 1)] * count)
    link.arrive(*[Message("d/k/loudness", b"0.5", 1)] * 4)
    agent.step()
    assert agent._plan.pipeline._last is None, "messages are not kept"
    clock.advance(30)
    agent.step()
    found = read(file.read_text())
    counts = [
        found.value("latency_seconds_count", route=one) for one in ("a/{s}/x", "b/{s}/x", "c/{s}/x", "d/{s}/{feature}")
    ]
    assert counts == [1, 2, 3, 4]


class Slow(FakeModel):
    """Takes 30 ms of a fake clock."""

    clock: Any = None

    def predict(self, rows: Any) -> Any:
        Slow.clock.advance(0.03)
        return super().predict(rows)


def test_sensors_do_not_make_series(file: Path) -> None:
    link = FakeLink()
    agent, clock = ended(link, textfile=file, routes=[GATHERING], model=FakeModel(make_card(("loudness", "tempo"))))
    agent.step()
    before = len(read(file.read_text()).samples)
    link.arrive(*[value(room=str(number)) for number in range(150)])
    agent.step()
    clock.advance(30)
    agent.step()
    found = read(file.read_text())
    assert len(found.samples) == before
    assert (found.value("sensors"), found.value("sensors_complete")) == (150, 0)


def test_what_the_broker_refuses_is_degraded(file: Path) -> None:
    link = FakeLink()
    link.refused = [Refused("a", "Not authorized")]
    agent, clock = ended(link, textfile=file)
    agent.step()
    clock.advance(30)
    agent.step()
    assert read(file.read_text()).value("state", state="degraded") == 1


def test_without_a_broker_it_is_written_too(file: Path) -> None:
    agent, clock = ended(BrokerError("away"), BrokerError("away"), textfile=file)
    agent.step()
    first = file.stat().st_ino
    clock.advance(30)
    agent.step()
    assert file.stat().st_ino != first
    assert read(file.read_text()).value("state", state="offline") == 1


def test_it_is_written_at_the_health_interval_and_never_in_place(file: Path) -> None:
    agent, clock = ended(FakeLink(), textfile=file, health_interval=10)
    agent.step()
    first = file.stat().st_ino
    clock.advance(9)
    agent.step()
    assert file.stat().st_ino == first
    with file.open() as old:
        clock.advance(1)
        agent.step()
        assert 'edge_agent_uptime_seconds{node="node"} 0.0\n' in old.read(), "whoever has it open reads it to its end"
    assert file.stat().st_ino != first
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_everybody_may_read_it(file: Path) -> None:
    before = os.umask(0o077)  # that of the service
    try:
        ended(FakeLink(), textfile=file)[0].step()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_nothing_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    link = FakeLink()
    agent, clock = ended(link)
    for _ in range(3):
        link.arrive(Message(FEATURES, GOOD, 1))
        clock.advance(30)
        agent.step()
    assert list(tmp_path.iterdir()) == []
    assert sum(sum(counts.latencies) for *_, counts in agent._plan.pipeline.shares()) == 0


def test_a_link_in_the_way_is_not_followed(file: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    file.with_name(f".{file.name}.new").symlink_to(precious)
    file.symlink_to(precious)
    ended(FakeLink(), textfile=file)[0].step()
    assert precious.read_text() == "kept"
    assert not file.is_symlink()
    assert read(file.read_text())


def _missing(file: Path) -> Path:
    return file.parent / "missing" / file.name


def _a_directory(file: Path) -> Path:
    file.mkdir()
    (file / "x").touch()
    return file


def _a_file_on_the_way(file: Path) -> Path:
    file.touch()
    return file / "x.prom"


@pytest.mark.parametrize("spoil", [_missing, _a_directory, _a_file_on_the_way])
def test_a_failure_is_said_once_and_counted_and_the_agent_goes_on(
    file: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path: Path = spoil(file)
    link = FakeLink()
    agent, clock = ended(link, textfile=path)
    for _ in range(5):
        link.arrive(Message(FEATURES, GOOD, 1))
        agent.step()
        clock.advance(30)
    assert agent.tally.total.predictions == 5
    assert (agent.tally.connections, agent.tally.faults) == (1, 0)
    (line,) = [line for line in warnings(caplog) if "metrics" in line]
    assert str(path) in line
    if path.parent.is_dir() or spoil is _a_file_on_the_way:
        return
    path.parent.mkdir()
    agent.step()
    assert read(path.read_text()).value("textfile_failures_total") == 5
    assert f"metrics: {path} is written again" in caplog.messages


def test_a_bug_in_it_does_not_end_the_connection(file: Path) -> None:
    link = FakeLink()
    agent, clock = ended(link, textfile=file)
    agent.step()

    def broken(*_: object) -> Any:
        raise RuntimeError("a bug")

    agent._plan = agent._plan._replace(describe=broken)
    agent._reporter.go_on_with(agent._plan)
    clock.advance(30)
    agent.step()
    assert (agent.tally.faults, agent.tally.connections, link.abandoned) == (1, 1, False)


def test_at_a_stop_it_goes(file: Path) -> None:
    class Stopped:
        received, wakeup = True, None

    agent, _ = ended(FakeLink(), textfile=file, notifier=HeardNotifier())
    agent.step()
    assert file.exists()
    agent.run(Stopped())  # type: ignore[arg-type]
    assert not file.exists()


def test_after_a_reload_it_is_there_at_once(file: Path) -> None:
    agent, clock = ended(FakeLink(), textfile=file, health_interval=86_400)
    agent.step()
    other = file.with_name("other.prom")
    agent.take_over(agent._settings, make_plan(textfile=other, health_interval=86_400))
    agent.step()
    assert [one.name for one in file.parent.iterdir()] == [other.name]
    agent.take_over(agent._settings, make_plan(textfile=other, health_interval=10))
    agent.step()
    first = other.stat().st_ino
    clock.advance(10)
    agent.step()
    assert other.stat().st_ino != first, "the new interval is that of the file, too"


def test_a_reload_moves_it_and_takes_it_away(file: Path) -> None:
    link = FakeLink()
    agent, clock = ended(link, textfile=file)
    agent.step()
    link.arrive(Message(FEATURES, GOOD, 1))
    agent.step()
    other = file.with_name("other.prom")
    agent.take_over(agent._settings, make_plan(textfile=other))
    clock.advance(30)
    agent.step()
    assert not file.exists()
    assert read(other.read_text()).value("predictions_total", route=IN) == 1, "an unchanged route goes on"
    changed = Route("genre", Template("a/{s}"), Template("b/{s}"), Template("c/{s}"))
    agent.take_over(agent._settings, make_plan(textfile=other, routes=[changed]))
    clock.advance(30)
    agent.step()
    assert read(other.read_text()).values("predictions_total") == [0]
    assert agent.tally.total.predictions == 1, "health has the total of all"
    agent.take_over(agent._settings, make_plan())
    assert not other.exists()
    clock.advance(30)
    agent.step()
    assert list(file.parent.iterdir()) == []


def test_drift_by_model_and_column() -> None:
    twice = [
        ("genre", False, [("feature", "tempo", 0.12345)]),
        ("genre", True, [("feature", "tempo", 0.3), ("answer", "tempo", 0.1)]),
    ]
    found = told(drift=twice)
    assert found.value("drifted", node="pi-1", model="genre") == 1
    assert found.value("drift_psi", node="pi-1", model="genre", part="feature", column="tempo") == 0.3
    assert found.value("drift_psi", node="pi-1", model="genre", part="answer", column="tempo") == 0.1
    assert "edge_agent_drifted" not in told().kinds
