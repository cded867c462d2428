"""What deploy/ has for Prometheus and Grafana names metrics that exist, and docs/metrics.md names them all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from edge_agent.contract.messages import ErrorCode, Gathered, Health
from edge_agent.tally import Counts
from tests.unit.exposed import IN, OUT, Exposed, told

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\bedge_agent_[a-z0-9_]+")
#: Over MQTT there are no histograms.
ONLY_OVER_MQTT = {"edge_agent_latency_p50_seconds", "edge_agent_latency_p99_seconds"}


@pytest.fixture(scope="module")
def exposed() -> Exposed:
    gathered = {"sensors": 1, "complete": 1, "forgotten": 0, "ignored": 0}
    return told(
        [("genre", IN, OUT, Counts())],
        gathered=gathered,
        temperature=48.3,
        drift=[("genre", True, [("feature", "tempo", 0.3)])],
    )


@pytest.fixture(scope="module")
def over_mqtt() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "mqtt-exporter.yaml").read_text())["metrics"]
    return found


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())


def names_of(exposed: Exposed) -> set[str]:
    """What can be asked for: of a histogram its three."""
    histograms = {name for name, kind in exposed.kinds.items() if kind == "histogram"}
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    return set(exposed.kinds) - histograms | parts


def queries_of(dashboard: Any) -> list[tuple[str, str]]:
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [(one["name"], one["definition"]) for one in dashboard["templating"]["list"] if "definition" in one]


def test_every_query_names_metrics_that_exist(dashboard: Any, exposed: Exposed) -> None:
    known = names_of(exposed) | ONLY_OVER_MQTT
    for title, query in queries_of(dashboard):
        assert NAME.findall(query), title
        assert set(NAME.findall(query)) <= known, title


def test_every_label_that_a_query_chooses_or_sums_by_exists(dashboard: Any, exposed: Exposed) -> None:
    known = {label for _, labels, _ in exposed.samples for label in labels}
    for title, query in queries_of(dashboard):
        chosen = {
            label for inside in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)!?=~?\"", inside)
        }
        summed = {
            label for inside in re.findall(r"(?:by|on|group_left) \(([^)]*)\)", query) for label in inside.split(", ")
        }
        assert chosen | summed <= known, title


def test_a_panel_that_needs_the_file_says_so(dashboard: Any, over_mqtt: list[dict[str, Any]]) -> None:
    there = {one["prom_name"] for one in over_mqtt}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            alternatives = target["expr"].split(" or ")
            if not any(set(NAME.findall(one)) <= there for one in alternatives):
                assert panel["description"] == "Only with metrics from the file.", panel["title"]


def test_panels_do_not_overlap(dashboard: Any) -> None:
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_alerts_name_metrics_that_exist(exposed: Exposed, over_mqtt: list[dict[str, Any]]) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "edge-agent-alerts.yml").read_text())["groups"][0]["rules"]
    text = (DEPLOY / "prometheus" / "edge-agent-alerts.yml").read_text()
    there = {one["prom_name"] for one in over_mqtt}
    for rule in rules:
        assert set(NAME.findall(rule["expr"])) <= names_of(exposed), rule["alert"]
        if not set(NAME.findall(rule["expr"])) <= there or "node_textfile" in rule["expr"]:
            remark, _, _ = text.partition(f"- alert: {rule['alert']}\n")
            assert "# With the file" in remark.rstrip().rpartition("\n\n")[2], rule["alert"]


def test_the_mqtt_exporter_reads_figures_that_health_has(over_mqtt: list[dict[str, Any]]) -> None:
    health = get_type_hints(Health)
    inside = {
        "rejections": {code.value for code in ErrorCode},
        "latency_ms": {"p50", "p99"},
        "gathering": set(get_type_hints(Gathered)),
    }
    for one in over_mqtt:
        first, _, second = one["mqtt_name"].partition(".")
        assert first in health
        assert second in inside.get(first, {""}), one["mqtt_name"]
    numbers = {key for key, kind in health.items() if kind in {int, float}}
    told = {one["mqtt_name"] for one in over_mqtt}
    assert numbers - told == {"interval", "messages_per_second", "predictions_per_second"}, "rate() knows those"
    assert {f"rejections.{code.value}" for code in ErrorCode} <= told


def test_both_ways_have_the_same_names_and_kinds(over_mqtt: list[dict[str, Any]], exposed: Exposed) -> None:
    for one in over_mqtt:
        name = one["prom_name"]
        if name not in ONLY_OVER_MQTT:
            assert exposed.kinds[name] == one["type"], name
        assert one["omit_timestamp"] is True, "an old time of its own would keep a series that has ended"


def test_the_page_names_every_series(exposed: Exposed) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(exposed.kinds) == set(NAME.findall(page)) - ONLY_OVER_MQTT
