"""A node's figures as Prometheus reads them (text format 0.0.4), in a file for node_exporter's textfile collector.

Rules:

* Labels are the node, models and routes as configured, and codes of the contract. None comes from a topic or a payload, so the
  number of series depends on the configuration alone, and what arrives can't make it grow.
* Names follow Prometheus' conventions: base units, `_total` on what only grows. A series that may come is there from the
  start, as zero, so that its first event is an increase.
* The file is replaced as a whole, and only when somebody asked for it. That it can't be written is said once and counted; the
  agent goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from edge_agent.contract.messages import Described, ErrorCode, Gathered
from edge_agent.errors import FileError
from edge_agent.host import files
from edge_agent.tally import BOUNDS, Counts, Tally

_log = logging.getLogger(__name__)

#: Everybody may read the file: node_exporter has a user of its own, and it contains no secrets.
_MODE: Final = 0o644
_STATES: Final = ("online", "degraded", "offline")
_MODEL: Final = ("model", "version", "sha256", "task")

_TOTALS: Final = (
    ("messages_received", "Messages from the broker.", "received"),
    ("messages_redelivered", "Messages that the broker had sent before.", "redelivered"),
    ("messages_acknowledged", "Messages acknowledged to the broker.", "acknowledged"),
    ("messages_unrouted", "Messages that no route takes.", "unrouted"),
    ("messages_poisoned", "Messages given up because their answer ended the connection each time.", "poisoned"),
    ("answers", "Answers sent, predictions and rejections.", "answered"),
    ("answers_refused", "Answers that the broker did not take.", "refused"),
    ("connections", "Connections to the broker.", "connections"),
    ("faults", "Errors of the agent itself that it went on after.", "faults"),
)
_ROUTE_TOTALS: Final = (
    ("predictions", "Predictions: rows that got a label, a number or an anomaly score.", "predictions"),
    ("predictions_outside", "Predictions with a value beyond all that the model was trained on.", "outside"),
    ("predictions_uncertain", "Predictions without a label, because of min_confidence.", "uncertain"),
    ("messages_ignored", "Messages of the route that get no answer: empty ones, unwanted retained ones.", "ignored"),
)

#: A model's name, whether it has drifted, and the PSI of its features and answers: which of them, its name, the PSI.
Measured: TypeAlias = tuple[str, bool, Iterable[tuple[str, str, float]]]
#: A model's name, its route's topics as configured, and what the route has counted.
Share: TypeAlias = tuple[str, str, str, Counts]


class Seen(NamedTuple):
    """A node at one moment: `shares` are those of its routes, `gathered` the figures of all that gather, None without any.
    `uptime` is in seconds, `failures` counts files that could not be written, `temperature` is that of the processor in °C. `drift` is None where nobody
    watches for it.
    """

    described: Described
    state: str
    uptime: float
    in_flight: int
    rss_bytes: int
    tally: Tally
    shares: Iterable[Share]
    gathered: Gathered | None = None
    failures: int = 0
    temperature: float | None = None
    drift: Iterable[Measured] | None = None


def exposition(seen: Seen) -> Iterator[str]:
    """Yield the lines, each with its line end."""
    told, node = seen.described, _labels(node=seen.described["node"])
    versions = _labels(version=told["agent"], python=told["python"], onnxruntime=told["onnxruntime"], mqtt=told["mqtt"])
    yield from _gauge("info", "Versions, and the MQTT version of the last connection.", [(f"{node},{versions}", 1)])
    # Once, also where routes name its file by several paths.
    models = dict.fromkeys((one["name"], one["version"], one["sha256"], one["task"]) for one in told["models"])
    named = [(f"{node},{_labels(**dict(zip(_MODEL, one, strict=True)))}", 1) for one in models]
    yield from _gauge("model_info", "Models that are served.", named)
    states = [(f"{node},{_labels(state=state)}", int(state == seen.state)) for state in _STATES]
    yield from _gauge("state", "1 for the state that the node is in, as on edge/{node}/state.", states)
    yield from _gauge("uptime_seconds", "Time since the start.", [(node, round(seen.uptime, 1))])
    yield from _gauge("resident_memory_bytes", "Resident memory of the agent.", [(node, seen.rss_bytes)])
    if seen.temperature is not None:
        yield from _gauge("temperature_celsius", "Temperature of the processor.", [(node, seen.temperature)])
    yield from _gauge("messages_in_flight", "Messages that wait for a confirmation.", [(node, seen.in_flight)])
    for name, text, key in _TOTALS:
        yield from _total(name, text, [(node, getattr(seen.tally, key))])
    yield from _total("textfile_failures", "Metrics files that could not be written.", [(node, seen.failures)])
    if seen.gathered is not None:
        yield from _of_sensors(node, seen.gathered)
    if seen.drift is not None:
        yield from _of_drift(node, seen.drift)
    yield from _of_routes(list(_labelled(node, seen.shares)))


def _of_sensors(node: str, gathered: Gathered) -> Iterator[str]:
    yield from _gauge("sensors", "Sensors whose values are kept.", [(node, gathered["sensors"])])
    yield from _gauge("sensors_complete", "Sensors with all values, none too old.", [(node, gathered["complete"])])
    yield from _total("sensors_forgotten", "Sensors that made room for others.", [(node, gathered["forgotten"])])
    text = "Messages to routes that gather or merge, without a feature."
    yield from _total("messages_without_feature", text, [(node, gathered["ignored"])])


def _of_drift(node: str, measured: Iterable[Measured]) -> Iterator[str]:
    # Two files may have one name: then it is what the worst has.
    drifted: dict[str, int] = {}
    most: dict[tuple[str, str, str], float] = {}
    for model, has_drifted, columns in measured:
        drifted[model] = max(drifted.get(model, 0), int(has_drifted))
        for part, name, psi in columns:
            most[model, part, name] = max(most.get((model, part, name), 0.0), round(psi, 4))
    text = "1 where what a model is asked, or answers, has drifted from what it was trained on."
    yield from _gauge("drifted", text, [(f"{node},{_labels(model=model)}", one) for model, one in drifted.items()])
    text = "Population stability index of a feature, or of a part of the answers, against training."
    samples = [
        (f"{node},{_labels(model=model, part=part, column=name)}", psi) for (model, part, name), psi in most.items()
    ]
    yield from _gauge("drift_psi", text, samples)


def _of_routes(shares: list[tuple[str, Counts]]) -> Iterator[str]:
    for name, text, key in _ROUTE_TOTALS:
        yield from _total(name, text, ((labels, getattr(counts, key)) for labels, counts in shares))
    rejections = (
        (f"{labels},{error}", counts.rejections[code]) for labels, counts in shares for code, error in _ERRORS
    )
    yield from _total("rejections", "Rows and messages that got a reason instead of a prediction.", rejections)
    name = "edge_agent_latency_seconds"
    yield from _head(
        name, "Time from a message read off the socket to its answer handed to the connection.", "histogram"
    )
    for labels, counts in shares:
        for bound, total in zip(_BUCKETS, accumulate(counts.latencies), strict=True):
            yield _sample(f"{name}_bucket", f"{labels},{bound}", total)
        yield _sample(f"{name}_sum", labels, counts.seconds)
        yield _sample(f"{name}_count", labels, sum(counts.latencies))


def _labelled(node: str, shares: Iterable[Share]) -> Iterator[tuple[str, Counts]]:
    """Yield the labels of each route: of routes of one model with the same topics in, the topics of the answers tell which, and
    where a topic looks like that, a number.
    """
    kept = list(shares)
    alike = Counter((model, subscribe) for model, subscribe, _, _ in kept)
    taken: Counter[tuple[str, str]] = Counter()
    for model, subscribe, publish, counts in kept:
        route = f"{subscribe} -> {publish}" if alike[model, subscribe] > 1 else subscribe
        taken[model, route] += 1
        number = taken[model, route]
        yield f"{node},{_labels(model=model, route=route if number == 1 else f'{route} ({number})')}", counts


#: The labels of each, as they are written, and its value.
_Samples: TypeAlias = Iterable[tuple[str, float]]


def _gauge(name: str, text: str, samples: _Samples) -> Iterator[str]:
    return _family(f"edge_agent_{name}", text, "gauge", samples)


def _total(name: str, text: str, samples: _Samples) -> Iterator[str]:
    return _family(f"edge_agent_{name}_total", text, "counter", samples)


def _family(name: str, text: str, kind: str, samples: _Samples) -> Iterator[str]:
    yield from _head(name, text, kind)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}\n"
    yield f"# TYPE {name} {kind}\n"


def _sample(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {value}\n"


def _labels(**labels: str) -> str:
    """Return labels as they are written: once for all samples that have them, since that takes longer than all else."""
    return ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


_ERRORS: Final = [(code, _labels(error=code.value)) for code in ErrorCode]
_BUCKETS: Final = [_labels(le=bound) for bound in (*map(str, BOUNDS), "+Inf")]


class TextFile:
    """The file, once it has a path: None for no file at all."""

    def __init__(self) -> None:
        self.path: Path | None = None
        #: How often it could not be written.
        self.failures = 0
        self._is_failing = False

    def move(self, path: Path | None) -> None:
        """Write to another path from now on, or not any more: the old file goes, for its figures would look current."""
        if path != self.path:
            self.remove()
            self.path, self._is_failing = path, False

    def remove(self) -> None:
        """Remove the file: what is no longer renewed would look as if it were."""
        if self.path is not None:
            try:
                files.remove(self.path)
            except FileError as error:
                _log.warning("metrics: the old file can't be removed: %s", error)

    def write(self, lines: Iterable[str]) -> None:
        """Replace the file by these lines."""
        if self.path is None:
            return
        try:
            # A name may contain what UTF-8 can't.
            files.replace(self.path, (line.encode(errors="replace") for line in lines), _MODE)
        except FileError as error:
            self.failures += 1
            if not self._is_failing:
                _log.error("metrics: %s (this is said once; the agent goes on and tries again)", error)
            self._is_failing = True
            return
        if self._is_failing:
            _log.info("metrics: %s is written again", self.path)
        self._is_failing = False
