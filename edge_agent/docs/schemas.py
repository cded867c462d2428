"""JSON Schemas of what is on the wire: from the wire contract, and from the features of a model card.

Nothing is written twice: what a message may have stands in `edge_agent.contract`, and is turned into schemas by pydantic. Rules:

* a schema never refuses what the agent takes, or publishes, but for spellings that nobody sends (words of a category with blanks
  around), and the last digit of a bound that was converted;
* schemas are for draft 7, which AsyncAPI builds on; what it has no word for begins with `x-`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter

from edge_agent.contract.card import QUANTILE_LEVELS, TRUTH, Feature
from edge_agent.payload.checks import bounds
from edge_agent.payload.kinds import NO_VALUE
from edge_agent.payload.places import NUMBER, Conversion

Schema: TypeAlias = dict[str, Any]

#: Where the schemas are that others refer to.
PLACE: Final = ("components", "schemas")
_TEMPLATE: Final = "#/components/schemas/{model}"
_NUMBER: Final = f"^{NUMBER.pattern}$"
#: The words for true and false, in any case.
_WORDS: Final = (
    r"^\s*("
    + "|".join("".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in word) for word in TRUTH)
    + r")\s*$"
)
#: Significant digits of a bound that was converted.
_DIGITS: Final = 12
#: What clears a value, or says that there is none.
NOTHING: Final[Schema] = {
    "description": "No value: null, or a word that firmware sends for it, in any case.",
    "enum": [None, *sorted(NO_VALUE)],
}


def of_wire(kinds: Iterable[Any]) -> dict[str, Schema]:
    """Return the schemas of dictionaries of the wire contract, and of those that they contain, by name."""
    found: dict[str, Schema] = {}
    for kind in kinds:
        schema = TypeAdapter(kind).json_schema(ref_template=_TEMPLATE, mode="serialization")
        found.update(schema.pop("$defs", {}))
        found[kind.__name__] = schema
    return {name: _without_titles(schema) for name, schema in found.items()}


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that repeat its keys."""
    if isinstance(schema, list):
        return [_without_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(one) for name, one in value.items()}
        if key == "properties"
        else _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def of_feature(feature: Feature, how: Conversion | None = None) -> Schema:
    """Return the schema of a feature's value as it comes, before its conversion."""
    schema: Schema = {"description": feature.description} if feature.description else {}
    schema |= {"x-kind": feature.kind, "x-feature": feature.name}
    if feature.unit:
        schema["x-unit"] = feature.unit
    taken = {"number": _number, "boolean": _boolean, "category": _category}[feature.kind](feature, how)
    words = [] if how is None else [word for word, _ in how.map]
    others: list[Schema] = [NOTHING] if feature.missing else []
    if words:
        others.append({"enum": [*words, *(int(word) for word in words if word.isdecimal() and len(word) < 10)]})
    schema |= {"anyOf": [taken, *others]} if others else taken
    if feature.kind == "number":
        levels = zip(QUANTILE_LEVELS, feature.quantiles, strict=True)
        schema["x-quantiles"] = [[level, value] for level, value in levels]
    if how is None:
        schema["examples"] = [feature.word(feature.example)]
    return schema


def _number(feature: Feature, how: Conversion | None) -> Schema:
    """A number, or text that is one."""
    low, high = bounds(feature)
    if how is not None:
        ends = [(low - how.offset) / how.scale, (high - how.offset) / how.scale]
        low, high = sorted(float(f"{end:.{_DIGITS}g}") for end in ends)
    schema: Schema = {"type": ["number", "string"]}
    if feature.minimum is not None or feature.maximum is not None:
        schema |= {"minimum": low, "maximum": high}
        for bound, key in ((feature.minimum, "minimum"), (feature.maximum, "maximum")):
            if bound is None and how is None:
                del schema[key]
    if how is None or not how.lenient:
        schema["pattern"] = _NUMBER
    return schema


def _boolean(feature: Feature, how: Conversion | None) -> Schema:  # noqa: ARG001 - as of all kinds
    return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, {"type": "string", "pattern": _WORDS}]}


def _category(feature: Feature, how: Conversion | None) -> Schema:  # noqa: ARG001
    whole = [int(word) for word in feature.categories if word.isascii() and word.isdecimal() and str(int(word)) == word]
    return {"enum": [*feature.categories, *whole]}
