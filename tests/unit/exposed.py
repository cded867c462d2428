"""Reads Prometheus' text format, strictly: what tests compare metrics with."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SAMPLE: Final = re.compile(
    r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z_0-9]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (?P<value>\S+)'
)
_LABEL: Final = re.compile(r'([a-z_0-9]+)="((?:[^"\\\n]|\\["\\n])*)"')
_UNESCAPED: Final = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}

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
