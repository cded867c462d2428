"""Explanations of answers as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from edge_agent.contract.answers import Explanation
from edge_agent.contract.messages import Message
from edge_agent.model.explain import METHODS
from edge_agent.serving.pipeline import Pipeline

#: Cells of the longest bar.
_WIDE: Final = 24
#: SHAP values that are shown; what is left is summed up.
_SHOWN: Final = 20


def told(pipeline: Pipeline, message: Message) -> Iterator[str]:
    """Yield the lines that explain the answers to a message, in all ways that the model has."""
    ways = [_explanations(pipeline, message._replace(explain=method)) for method in METHODS]
    several = len(ways[0]) > 1
    for number, each in enumerate(zip(*ways, strict=True)):
        found = [one for one in each if one is not None]
        had = [one for one in found if one["method"] != "none"]
        if several and found:
            yield f"row {number}"
        for one in had or found[-1:]:
            yield from (f"  {line}" for line in lines_of(one))


def _explanations(pipeline: Pipeline, message: Message) -> list[Explanation | None]:
    answers = [json.loads(answer.payload) for answer in pipeline.process([message])[0]]
    rows: list[Any] = [row for answer in answers for row in (answer if isinstance(answer, list) else [answer])]
    return [row.get("explanation") for row in rows]


def lines_of(why: Explanation) -> Iterator[str]:
    """Yield the lines of one explanation."""
    if why["method"] == "none":
        yield f"not explained: {why['reason']}"
    elif why["method"] == "path":
        for number, condition in enumerate(why["conditions"] or ["the tree asks nothing"]):
            yield f"{'and    ' if number else 'because'} {condition}"
        yield _otherwise(why["nearest"])
    else:
        yield from _shares(why["values"], why["of"], why["scale"], why["base"], why["output"])


def _otherwise(nearest: Any) -> str:
    if nearest is None:
        return "no single feature would change that"
    by = f" (a change of {nearest['change']:+g})" if "change" in nearest else ""
    to = nearest.get("label", nearest.get("value", "another answer"))
    return f"it would be {to if isinstance(to, str) else f'{to:g}'} with {nearest['condition']}{by}"


def _shares(values: dict[str, float], of: str, scale: str, base: float, output: float) -> Iterator[str]:
    yield f"{scale} of {of}: {base:g} on average in training, {output:g} here"
    shown = list(values.items())[:_SHOWN]
    if rest := list(values.values())[_SHOWN:]:
        shown.append((f"{len(rest)} others", sum(rest)))
    names = max((len(name) for name, _ in shown), default=0)
    most = max((abs(value) for _, value in shown), default=0.0) or 1.0
    for name, value in shown:
        yield f"  {name:{names}}  {value:+11.6g}  {'#' * round(_WIDE * abs(value) / most)}".rstrip()
