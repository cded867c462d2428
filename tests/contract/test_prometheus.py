"""Metrics in the real programs of Debian: node_exporter reads the file, prometheus-mqtt-exporter hears health, and promtool takes
names, rules and queries.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.contract.messages import Message
from edge_agent.testing import FakeLink, make_agent
from tests.brokers import HOST, Mosquitto, free_port
from tests.contract.agents import RunningAgent, wait_until
from tests.contract.conftest import Connect
from tests.e2e.tracks import ROCK
from tests.prometheus import ROOT, Exporter, asked, exporter, promtool, running

DEPLOY = ROOT / "deploy"


def expose(file: Path, hostile: str) -> None:
    """Write the metrics of an agent that answered one message, and has names with all that Prometheus reads otherwise."""
    link = FakeLink()
    agent = make_agent(link, textfile=file)
    describe = agent._plan.describe

    def described(protocol: str, started: str) -> Any:
        model = {"name": hostile, "version": hostile, "sha256": "", "task": "classification", "features": []}
        return {**describe(protocol, started), "agent": hostile, "models": [model]}

    agent._reporter.go_on_with(agent._plan._replace(describe=described))
    link.arrive(Message("music/kitchen/features", b'{"loudness": 0.9}', 1))
    agent.step()
    agent._reporter._next_metrics = 0.0
    agent.step()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "textfiles").mkdir()
    return tmp_path / "textfiles" / "edge-agent.prom"


def node_exporter(file: Path, directory: Path, *more: str) -> AbstractContextManager[Exporter]:
    """node_exporter, which passes on what is in the file's directory."""
    collected = ("--collector.textfile", f"--collector.textfile.directory={file.parent}")
    listening = f"--web.listen-address={HOST}:{{port}}"
    return exporter("prometheus-node-exporter", *collected, *more, listening, log=directory / "exporter.log")


def mqtt_exporter(server: Mosquitto, directory: Path) -> AbstractContextManager[Exporter]:
    """The exporter that hears a broker, as deploy/ configures it."""
    configuration = directory / "mqtt-exporter.yaml"
    text = (DEPLOY / "prometheus" / "mqtt-exporter.yaml").read_text()
    configuration.write_text(text.replace("localhost:1883", f"{HOST}:{server.port}"))
    listening = ("-listen-address", HOST, "-listen-port", "{port}")
    return exporter(
        "prometheus-mqtt-exporter", "-config", str(configuration), *listening, log=directory / "exporter.log"
    )


HOSTILE = 'a "quoted" \\n\n\\ {b="c"} 1\r\t\x01\x7f\u2028 é 😀'


def test_promtool_has_nothing_to_complain_of(file: Path) -> None:
    expose(file, HOSTILE)
    assert promtool("check", "metrics", content=file.read_bytes()) == ""


def test_node_exporter_passes_on_what_the_file_says(file: Path, tmp_path: Path) -> None:
    expose(file, HOSTILE)
    with node_exporter(file, tmp_path, "--collector.disable-defaults") as node:
        wait_until(lambda: bool(node.metrics()), "node_exporter passes on metrics")
        found = node.metrics()
    labels = 'model="genre",node="node",route="music/{sensor}/features"'
    assert f"edge_agent_predictions_total{{{labels}}} 1" in found
    assert f'edge_agent_latency_seconds_bucket{{{labels},le="+Inf"}} 1' in found
    (model,) = [line for line in found if line.startswith("edge_agent_model_info{")]
    assert 'model="a \\"quoted\\" \\\\n\\n\\\\ {b=\\"c\\"} 1\r\t\x01\x7f\u2028 é 😀"' in model
    kinds = {line for line in file.read_bytes().decode().split("\n") if line.startswith("# TYPE")}
    assert {line for line in found if line.startswith("# TYPE")} <= kinds


def test_the_mqtt_exporter_tells_what_health_says(server: Mosquitto, connect: Connect, tmp_path: Path) -> None:
    expected = [
        'edge_agent_predictions_total{sensor="kitchen",topic="edge/kitchen/health"} 1',
        'edge_agent_rejections_total{error="invalid_features",sensor="kitchen",topic="edge/kitchen/health"} 1',
        'edge_agent_rejections_total{error="malformed_payload",sensor="kitchen",topic="edge/kitchen/health"} 1',
        'edge_agent_messages_received_total{sensor="kitchen",topic="edge/kitchen/health"} 3',
    ]
    with (
        mqtt_exporter(server, tmp_path) as told,
        RunningAgent(server.port, health={"interval": 1.0}) as agent,
    ):
        wait_until(lambda: agent.agent.tally.connections == 1, "connected")
        client = connect(server)
        for payload in (json.dumps(ROCK).encode(), b'{"tempo": -5}', b"?"):
            client.publish("music/kitchen/features", payload, qos=1)
        wait_until(lambda: set(expected) <= set(told.metrics()), "the exporter tells of three messages")
        found = told.metrics()
    assert any(line.startswith("edge_agent_latency_p99_seconds{") for line in found), "zero or not, it is a number"


def test_prometheus_takes_configuration_and_alerts() -> None:
    directory = DEPLOY / "prometheus"
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=directory)
    assert "SUCCESS: 7 rules" in promtool("check", "rules", "edge-agent-alerts.yml", cwd=directory)


def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    plain = [query.replace("$__rate_interval", "2m") for query in queries]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(plain)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules" in promtool("check", "rules", str(file))


def test_alerts_come_when_they_should(tmp_path: Path) -> None:
    """A node that vanishes, one that rejects, one that lost its broker, and one that is well."""
    nodes = ("gone", "rejecting", "offline", "well")
    series = [
        {
            "series": f'edge_agent_uptime_seconds{{node="{one}"}}',
            "values": "0+60x10 stale" if one == "gone" else "0+60x60",
        }
        for one in nodes
    ]
    for one in nodes[1:]:
        rejected = "0+60x60" if one == "rejecting" else "0+1x60"
        series += [
            {"series": f'edge_agent_rejections_total{{node="{one}",error="invalid_features"}}', "values": rejected},
            {"series": f'edge_agent_predictions_total{{node="{one}"}}', "values": "0+60x60"},
            *(
                {
                    "series": f'edge_agent_state{{node="{one}",state="{state}"}}',
                    "values": f"{int((state == 'offline') == (one == 'offline'))}+0x60",
                }
                for state in ("online", "offline")
            ),
        ]
    expected = {"EdgeAgentGone": "gone", "EdgeAgentRejects": "rejecting", "EdgeAgentNotOnline": "offline"}
    alerts = ("EdgeAgentGone", "EdgeAgentRejects", "EdgeAgentNotOnline", "EdgeAgentRestartsOften", "EdgeAgentErrors")
    summaries = {
        "EdgeAgentGone": "gone reports nothing any more: device, network or agent is off",
        "EdgeAgentRejects": "rejecting rejects more than a tenth of what it gets",
        "EdgeAgentNotOnline": "offline is offline: no broker, or a subscription was refused",
    }
    fires = [
        {
            "eval_time": "45m",
            "alertname": alert,
            "exp_alerts": [
                {
                    "exp_labels": {
                        "node": expected[alert],
                        **({"state": "offline"} if alert == "EdgeAgentNotOnline" else {}),
                    },
                    "exp_annotations": {"summary": summaries[alert]},
                }
            ]
            if alert in expected
            else [],
        }
        for alert in alerts
    ]
    tests = {
        "rule_files": [str(DEPLOY / "prometheus" / "edge-agent-alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": fires}],
    }
    file = tmp_path / "alerts.yml"
    file.write_text(json.dumps(tests))
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.long
@pytest.mark.parametrize("way", ["file", "mqtt"])
def test_every_panel_shows_something(way: str, file: Path, server: Mosquitto, connect: Connect, tmp_path: Path) -> None:
    """A real Prometheus collects a real agent, by the job that deploy/ has for it, and answers the dashboard's queries."""
    port = free_port()
    with ExitStack() as stack:
        told = stack.enter_context(node_exporter(file, tmp_path) if way == "file" else mqtt_exporter(server, tmp_path))
        configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        (job,) = [one for one in configuration["scrape_configs"] if one["job_name"] == f"edge-agent-{way}"]
        job |= {"static_configs": [{"targets": [f"{HOST}:{told.port}"]}], "scrape_interval": "1s"}
        (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
        routes = [{"model": "genre"}, {"model": "genre", "subscribe": "all/{s}/{feature}", "publish": "of/{s}"}]
        textfile = {"metrics": {"textfile": str(file)}} if way == "file" else {}
        agent = stack.enter_context(RunningAgent(server.port, health={"interval": 1.0}, route=routes, **textfile))
        wait_until(lambda: agent.agent.tally.connections == 1, "connected")
        stack.enter_context(
            running(
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={HOST}:{port}",
                log=tmp_path / "prometheus.log",
            )
        )
        client = connect(server)
        dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
        missing = {
            panel["title"]: panel["targets"]
            for panel in dashboard["panels"]
            if (way == "file" or "Only with" not in panel["description"]) and "Temperature" not in panel["title"]
        }

        def all_there() -> bool:
            for topic, payload in (
                ("music/k/features", json.dumps(ROCK)),
                ("music/k/features", "?"),
                ("all/k/tempo", "99"),
            ):
                client.publish(topic, payload.encode(), qos=1)
            for title, targets in list(missing.items()):
                if all(asked(port, _plain(target["expr"])) for target in targets):
                    del missing[title]
            return not missing

        wait_until(all_there, f"each panel shows something, but these do not: {missing}")


def _plain(query: str) -> str:
    """Return a query of the dashboard as Grafana would send it, for our node and all models and routes."""
    return (
        query.replace("$__rate_interval", "10s")
        .replace("$node", "kitchen")
        .replace("$model", ".*")
        .replace("$route", ".*")
    )
