"""A node whose metrics tests read, and Prometheus' text format, read strictly."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from edge_agent.serving.metrics import Seen, exposition
from edge_agent.tally import Tally

_SAMPLE: Final = re.compile(
    r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z_0-9]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (?P<value>\S+)'
)
_LABEL: Final = re.compile(r'([a-z_0-9]+)="((?:[^"\\\n]|\\["\\n])*)"')
_UNESCAPED: Final = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}

DESCRIBED: Any = {
    "node": "pi-1",
    "agent": "1.2.3",
    "python": "3.13.1",
    "onnxruntime": "1.21.0",
    "mqtt": "5",
    "started": "",
    "models": [{"name": "genre", "version": "1.0.0", "sha256": "ab", "task": "classification", "features": []}],
    "routes": [],
}
IN, OUT = "music/{sensor}/features", "music/{sensor}/genre"

Labels = dict[str, str]


class Exposed(NamedTuple):
    """Each metric's kind, and the samples: name, labels, value."""

    kinds: dict[str, str]
    samples: list[tuple[str, Labels, float]]

    def value(self, name: str, **labels: str) -> float:
        """The value of the only sample that has these labels, among others."""
        (found,) = self.values(name, **labels)
        return found

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of all samples with these labels, among others."""
        return [
            value
            for one, theirs, value in self.samples
            if one == f"edge_agent_{name}" and labels.items() <= theirs.items()
        ]


def read(text: str) -> Exposed:
    """Read a whole file; anything that does not belong there is an error."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: list[str] = []
    samples: list[tuple[str, Labels, float]] = []
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            _, _, name, told = line.split(" ", 3)
            assert name not in helped
            assert told.endswith(".")
            helped.append(name)
        elif line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split(" ")
            assert helped[-1] == name
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            name = found["name"]
            if kinds[helped[-1]] == "histogram":
                name = re.sub("_(bucket|sum|count)$", "", name)
            assert name == helped[-1], "samples follow their own head"
            labels = {
                key: re.sub(r"\\.", lambda one: _UNESCAPED[one[0]], told)
                for key, told in _LABEL.findall(found["labels"])
            }
            samples.append((found["name"], labels, float(found["value"])))
    series = [(name, *sorted(labels.items())) for name, labels, _ in samples]
    assert len(set(series)) == len(series), "each series is there once"
    return Exposed(kinds, samples)


def told(shares: Any = (), **changes: Any) -> Exposed:
    """What a node tells."""
    seen = Seen(DESCRIBED, "online", 12.34, 3, 1000, Tally(), shares)._replace(**changes)
    return read("".join(exposition(seen)))
