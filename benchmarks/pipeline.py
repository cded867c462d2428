"""What a message costs in the pipeline, without broker and connection: each way of sending features against the plain JSON
route, one message at a time and 20 together, that route watched for drift (at the rate of this benchmark, of which a sample is counted, and with
each message counted), rows of batches with and without drift, rows that are rejected, and one route against 1,000.

    python -m benchmarks.pipeline

CPU time of this process; all ways take turns, and a figure is the median of the rounds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import cbor2

from benchmarks import payloads
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.model.library import Library
from edge_agent.routing.routes import Route
from edge_agent.serving.drifting import Drifting
from edge_agent.serving.pipeline import Pipeline

_TOGETHER: Final = (1, 20)
_ROUNDS: Final = 11
_MESSAGES: Final = 1_000
_SENSORS: Final = 50
_ROUTES: Final = 1_000
_TOPICS: Final = 50_000
#: Rows of a batch, and those of other batches that are measured with drift.
_ROWS: Final = 10_000
_SIZES: Final = (100, 1_000, _ROWS)
_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "application/json": lambda one: json.dumps(one).encode(),
    "application/cbor": cbor2.dumps,
}


def main() -> int:
    """Print the tables."""
    model = Library().load("genre")
    rows = payloads.draw_rows(model.card, payloads.COUNT)
    names = [feature.name for feature in model.card.features]

    def pipeline(subscribe: str, **options: Any) -> Pipeline:
        return Pipeline([_route(subscribe, "out/{s}", **options)], {"genre": model})

    def watched(clock: Callable[[], float]) -> Pipeline:
        drift = Drifting({"genre": model}, hours=24.0, interval=600.0, clock=clock, time=str)
        return Pipeline([_route("in/{s}/x", "out/{s}")], {"genre": model}, observers=drift.observers)

    def sent(encoded: list[bytes], content_type: str | None = None) -> list[Message]:
        return [
            Message(f"in/{number % _SENSORS}/x", encoded[number % len(encoded)], 1, content_type)
            for number in range(_MESSAGES)
        ]

    plain = pipeline("in/{s}/x")
    texts = [json.dumps(row).encode() for row in rows]
    records = [json.dumps([{"n": name, "v": row[name]} for name in names]).encode() for row in rows]
    gathered = [
        Message(f"in/{number % _SENSORS}/{name}", json.dumps(row[name]).encode(), 1)
        for number, row in enumerate(rows * (_MESSAGES // len(rows) // len(names) + 1))
        for name in names
    ]
    ways = {
        "JSON": (plain, sent(texts)),
        "JSON, drift": (watched(time.monotonic), sent(texts)),
        # Time passes from call to call, so that there are never more than 80 a second.
        "JSON, drift, each": (watched(count(0.0, 0.25).__next__), sent(texts)),
        "merged": (pipeline("in/{s}/x", partial="merge"), sent(texts)),
        "gathered": (pipeline("in/{s}/{feature}"), gathered),
        "CBOR": (plain, sent([cbor2.dumps(row) for row in rows], "application/cbor")),
        "SenML": (plain, sent(records, "application/senml+json")),
    }
    print(f"{'us of CPU a message':22}" + "".join(f"{f'{number} together':>20}" for number in _TOGETHER))
    found = [_measure(ways, number) for number in _TOGETHER]
    for name in ways:
        print(f"{name:22}" + "".join(f"{one[name]:11.1f} ({one[name] / one['JSON']:.2f} x)" for one in found))

    print(f"\n{'us of CPU a row':22}{'without drift':>20}{'with it':>20}")
    for name, messages in _answered(rows).items():
        told = _measure({"without": (plain, messages), "with": (watched(time.monotonic), messages)}, 1)
        each = {key: cost * len(messages) / _ROWS for key, cost in told.items()}
        print(f"{name:22}{each['without']:20.2f}{each['with']:11.2f} ({each['with'] / each['without']:.2f} x)")

    batches = _batches(rows, names)
    costs = _measure({name: (plain, [one]) for name, one in batches.items()}, 1)
    print(f"\n{f'us of CPU a row of {_ROWS:,}':32}")
    for name, cost in costs.items():
        print(f"{name:32}{cost / _ROWS:8.1f}")

    source = random.Random(payloads.SEED)
    numbers = [source.randrange(_TOPICS) for _ in range(_TOPICS // 2)]
    many = Pipeline([_route(f"r{one}/{{s}}/x", f"out/{one}/{{s}}") for one in range(_ROUTES)], {"genre": model})
    single = Pipeline([_route("r0/{s}/x", "out/0/{s}")], {"genre": model})
    scattered = {
        "one route": (single, [Message(f"r0/{one}/x", texts[one % len(texts)], 1) for one in numbers]),
        "1,000 routes": (many, [Message(f"r{one % _ROUTES}/{one}/x", texts[one % len(texts)], 1) for one in numbers]),
    }
    costs = _measure(scattered, 1, rounds=1)
    print(f"\n{_TOPICS:,} topics at random: " + ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items()))
    return 0


def _answered(rows: Sequence[dict[str, float]]) -> dict[str, list[Message]]:
    """Return `_ROWS` rows in batches of some sizes, in JSON and CBOR."""
    good = [{**rows[number % len(rows)], "id": number} for number in range(_ROWS)]
    return {
        f"{content_type[12:].upper()}, {size:,} rows": [
            Message("in/0/x", encode(good[start : start + size]), 1, content_type) for start in range(0, _ROWS, size)
        ]
        for content_type, encode in _ENCODERS.items()
        for size in _SIZES
    }


def _batches(rows: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, Message]:
    """Return batches of rows that are answered, or rejected for one mistake each, in JSON and CBOR."""
    good: list[dict[str, Any]] = [{**rows[number % len(rows)], "id": number} for number in range(_ROWS)]
    bad = {
        "answered": good,
        "with a wrong value": [{**row, names[row["id"] % len(names)]: "high"} for row in good],
        "without a value": [
            {key: value for key, value in row.items() if key != names[row["id"] % len(names)]} for row in good
        ],
        "empty": [{}] * _ROWS,
    }
    return {
        f"{content_type[12:].upper()}, {name}": Message("in/0/x", encode(batch), 1, content_type)
        for content_type, encode in _ENCODERS.items()
        for name, batch in bad.items()
    }


def _route(subscribe: str, publish: str, **options: Any) -> Route:
    return Route("genre", Template(subscribe), Template(publish), Template(f"{publish}/error"), **options)


def _measure(ways: dict[str, tuple[Pipeline, list[Message]]], together: int, rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the median CPU time of one message, in us, by the name of the way."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for name, (pipeline, messages) in ways.items():
        answers = [answer for per in pipeline.process(messages[:_SENSORS]) for answer in per]
        if not answers or any(answer.topic.endswith("/error") for answer in answers):
            raise SystemExit(f"benchmarks.pipeline: {name}: messages are not answered, so their cost says nothing")
    for _ in range(rounds):
        for name, (pipeline, messages) in ways.items():
            slices = [messages[start : start + together] for start in range(0, len(messages), together)]
            before = time.process_time()
            for one in slices:
                pipeline.process(one)
            found[name].append((time.process_time() - before) / len(messages) * 1e6)
    return {name: statistics.median(times) for name, times in found.items()}


if __name__ == "__main__":
    sys.exit(main())
