"""When the answers of two models are the same answer, and which can't be compared.

Rules:

* labels are equal or not; so are the verdicts of anomaly detectors. An answer without a label (`min_confidence`) is `UNCERTAIN`: it
  is what is published that is compared;
* numbers are equal within a share of the span of their output in the self-test of the model before. The tolerance of the self-test
  itself is for one model on two devices: two models never agree that far;
* a label that the other model does not have is compared with nothing, nor is an output; models of different tasks are not at all.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from edge_agent.contract.card import ModelCard

UNCERTAIN: Final = "(uncertain)"
#: Longest list of labels or outputs that a remark has, in characters.
_LISTED: Final = 120

#: The fields of the answers of the model before and of the candidate -> whether they are the same answer, None where they can't be
#: compared.
Comparison: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], bool | None]


def comparison(before: ModelCard, candidate: ModelCard, within: float) -> tuple[Comparison | None, list[str]]:
    """Return how answers are compared, None for not at all, and what is not compared, in words. `within` is a share."""
    if before.task != candidate.task:
        return None, [f"a model for {candidate.task} is not compared with one for {before.task}"]
    if before.task == "regression":
        return _of_numbers(before, candidate, within)
    return _of_labels(before, candidate)


def label_of(answer: Mapping[str, Any]) -> str:
    """Return the label of an answer."""
    label: str | None = answer["label"]
    return UNCERTAIN if label is None else label


def _of_labels(before: ModelCard, candidate: ModelCard) -> tuple[Comparison | None, list[str]]:
    gone, new = set(before.labels) - set(candidate.labels), set(candidate.labels) - set(before.labels)
    remarks = _remarks("labels", gone, new)
    if gone == set(before.labels) and gone:
        return None, remarks

    def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
        return None if one["label"] in gone or other["label"] in new else one["label"] == other["label"]

    return compare, remarks


def _of_numbers(before: ModelCard, candidate: ModelCard, within: float) -> tuple[Comparison | None, list[str]]:
    allowed = {
        output.name: within * _span(column)
        for output, column in zip(before.outputs, zip(*before.self_test.values, strict=True), strict=True)
    }
    units = {output.name: output.unit for output in candidate.outputs}
    remarks = _remarks("outputs", allowed.keys() - units.keys(), units.keys() - allowed.keys())
    remarks += [
        f"the output {output.name!r} is not compared: it was in {output.unit or 'no unit'}, and is in {units[output.name] or 'no unit'}"
        for output in before.outputs
        if units.get(output.name, output.unit) != output.unit
    ]
    shared = [output.name for output in before.outputs if units.get(output.name) == output.unit]
    if not shared:
        return None, remarks

    def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
        these, those = _values(before, one), _values(candidate, other)
        return all(abs(these[name] - those[name]) <= allowed[name] for name in shared)

    return compare, remarks


def _values(card: ModelCard, answer: Mapping[str, Any]) -> Mapping[str, float]:
    values: Mapping[str, float] = answer["values"] if "values" in answer else {card.outputs[0].name: answer["value"]}
    return values


def _span(values: tuple[float, ...]) -> float:
    """Return the span of an output, or the size of it where it has only one value."""
    return (max(values) - min(values)) or abs(values[0]) or 1.0


def _remarks(what: str, gone: set[str], new: set[str]) -> list[str]:
    remarks = []
    for which, names in (("that only the model before has", gone), ("that only the candidate has", new)):
        if names:
            listed = ", ".join(sorted(names))
            listed = listed if len(listed) <= _LISTED else f"{listed[:_LISTED]}…"
            remarks.append(f"{what} {which} are not compared: {listed}")
    return remarks
