"""What the benchmark computes and says; that it runs is shown by tests/e2e/test_benchmarks.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import http_load, payloads
from benchmarks.report import number, render
from benchmarks.results import Measurement, Results, Spread
from benchmarks.scenarios import BATCH, CONNECTIONS, FULL, QUICK, Scenario
from benchmarks.targets import IMPORT, Verdict, judge
from edge_agent.contract.card import ModelCard
from edge_agent.model.library import locate, open_file

MIB = 1024 * 1024
FAST = Scenario("mqtt", 1, 500, qos=1, protocol="5")
CALM = replace(FAST, outstanding=20)
OLDER = replace(FAST, protocol="3.1.1")
BATCHES = replace(FAST, rows=BATCH)
HTTP = Scenario("http", 1, CONNECTIONS)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return open_file(locate("genre")).card


def measured(subject: str, scenario: Scenario, rates: Iterable[float], **other: Any) -> list[Measurement]:
    figures: dict[str, Any] = {
        "p50": 0.001,
        "p99": 0.002,
        "cpu_per_1000": 0.1,
        "rss": 80 * MIB,
        "pss": 60 * MIB,
        "generator": 0.5,
        "broker": 0.2,
        **other,
    }
    return [
        Measurement(subject=subject, scenario=scenario, round=round_, messages=int(rate), seconds=1.0, **figures)
        for round_, rate in enumerate(rates)
    ]


def verdicts(*measurements: list[Measurement], **other: Any) -> dict[str, Verdict]:
    results = Results(FULL, [one for some in measurements for one in some], **other)
    return {one.name: one for one in judge(results)}


def test_a_ratio_is_the_median_over_the_rounds() -> None:
    # The machine was half as fast in the last round: a ratio within a round does not see that.
    found = verdicts(measured("agent", FAST, [9000, 10_000, 5500]), measured("afternoon", FAST, [1000, 1000, 500]))
    ratio = found["MQTT 5, QoS 1, 500 outstanding: rate / afternoon version"]
    assert ratio.measured == Spread(10.0, 9.0, 11.0)
    assert ratio.ok is True


def test_a_target_is_missed_by_the_median() -> None:
    found = verdicts(measured("agent", FAST, [3900, 3999, 8000]), measured("echo", FAST, [1000, 1000, 1000]))
    assert found["MQTT 5, QoS 1, 500 outstanding: rate / stock echo"].ok is False


def test_at_most_is_the_other_way_round() -> None:
    found = verdicts(
        measured("agent", CALM, [1], p50=0.005),
        measured("afternoon", CALM, [1], p50=0.04),
        measured("agent", FAST, [1]),
    )
    assert found["MQTT 5, QoS 1, 20 outstanding: p50 / afternoon version"].ok is False
    assert found["MQTT 5, after QoS 1, 500 outstanding: RSS"].ok is True


def test_protocols_http_batches_start_and_rest_are_judged() -> None:
    found = verdicts(
        measured("agent", FAST, [8000]),
        measured("agent", OLDER, [10_000]),
        measured("agent", BATCHES, [3000]),
        measured("fastapi", HTTP, [4000]),
        measured("flask", HTTP, [1000]),
        starts={IMPORT: [0.4, 0.5], "agent": [0.6, 0.7]},
        idle={"agent-5": 0.004, "fastapi": 0.1},
    )
    said = {name: (round(one.measured.median, 9), one.ok) for name, one in found.items()}
    assert said["MQTT 5, QoS 1, 500 outstanding: rate / MQTT 3.1.1"] == (0.8, True)
    assert said["MQTT 5, QoS 1, 500 outstanding: rate / FastAPI's requests"] == (2.0, False)
    assert said["MQTT 5, QoS 1, 500 outstanding: rate / Flask's requests"] == (8.0, None)
    assert said["MQTT 5, QoS 1, 500 outstanding: rows in batches of 100"] == (300_000, True)
    assert said["exec to first label / importing its libraries"] == (1.45, True)
    assert said["MQTT 5, no messages: CPU, of a core"] == (0.4, True)


def test_what_was_not_measured_is_not_judged() -> None:
    assert verdicts(measured("echo", FAST, [1000])) == {}


def test_the_report_shows_ratios_first_and_a_busy_generator() -> None:
    plan = replace(QUICK, scenarios=(FAST,), rounds=1)
    rows = measured("agent", FAST, [10_000]) + measured("echo", FAST, [2000], generator=0.95)
    results = Results(plan, rows, {IMPORT: [0.4], "agent": [0.5]}, {"agent-5": 0.001}, {"agent-5": 1.0})
    machine = {
        "cpu": "a CPU",
        "cores": 2,
        "system": "Debian",
        "kernel": "6.12",
        "python": "3.13.0",
        "mosquitto": "2.0",
        "libraries": {"paho-mqtt": "2.1.0"},
    }
    text = render(results, judge(results), machine, "it was busy")
    ratio = text.index("rate / stock echo")
    assert "5 x" in text[ratio:].splitlines()[0]
    assert ">= 4 x" in text[ratio:].splitlines()[0]
    assert ratio < text.index(str(FAST))
    assert "WARNING: it was busy" in text
    assert "stock paho echo, no model*" in text
    assert "edge-agent*" not in text
    json.dumps(results.to_json())


@pytest.mark.parametrize(
    ("value", "text"), [(0.97312, "0.973"), (12.345, "12.3"), (99.96, "100"), (16_543.2, "16,543")]
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert number(value) == text


def test_batches_come_after_all_rounds_of_single_rows() -> None:
    sizes = [{scenario.rows for scenario in stage} for stage in FULL.stages]
    assert sizes == [{1}, {BATCH}]
    assert sum(map(len, FULL.stages)) == len(FULL.scenarios)


def test_questions_are_valid_and_the_same_in_every_run(card: ModelCard) -> None:
    singles = [json.loads(payload) for payload in payloads.single(card)]
    assert payloads.single(card) == payloads.single(card)
    assert [row["id"] for row in singles] == list(range(payloads.COUNT))
    for feature in card.features:
        low, high = feature.minimum, feature.maximum
        assert all((low is None or row[feature.name] >= low) for row in singles)
        assert all((high is None or row[feature.name] <= high) for row in singles)
    batches = [json.loads(payload) for payload in payloads.batches(card, BATCH)]
    assert [len(batch) for batch in batches] == [BATCH, BATCH]
    assert [row for batch in batches for row in batch][: len(singles)] == singles


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nServer: x\r\n\r\n{}"


def test_an_http_answer_may_come_in_pieces() -> None:
    assert [http_load.parse(ANSWER[:end]) for end in range(len(ANSWER))] == [None] * len(ANSWER)
    assert http_load.parse(ANSWER) == b"{}"


@pytest.mark.parametrize(
    "wrong",
    [
        ANSWER.replace(b"200 OK", b"422 Unprocessable"),
        ANSWER.replace(b"content-length: 2", b"Transfer-Encoding: chunked"),
        ANSWER + b"more",
    ],
)
def test_an_http_answer_that_is_none_is_refused(wrong: bytes) -> None:
    with pytest.raises(ConnectionError):
        http_load.parse(wrong)
