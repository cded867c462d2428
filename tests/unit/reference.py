"""What the quick paths are held against: rows checked by pydantic alone, and rejections encoded as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_DETAILS, shown
from edge_agent.payload import checks

#: Reasons that the rejections of a batch give together, besides the first of each row.
BATCH_DETAILS = 1000


def row_type(features: Sequence[Feature]) -> TypeAdapter[Any]:
    """All of a row as pydantic has it."""
    fields = {
        feature.name: Annotated[
            float,
            Field(allow_inf_nan=False, ge=checks.bounds(feature)[0], le=checks.bounds(feature)[1]),
            BeforeValidator(checks._measured),
        ]
        for feature in features
    }
    row = TypedDict("row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]
    return TypeAdapter(row)


def reasons(kind: TypeAdapter[Any], row: Any) -> list[Any]:
    """All that is wrong with a row, in order."""
    try:
        kind.validate_python(row)
    except ValidationError as error:
        return [
            {"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"], "input": shown(one["input"])}
            for one in error.errors(include_url=False, include_context=False)
        ]
    return []


def rows_written(
    features: Sequence[Feature],
    rows: Sequence[Any],
    encode: Callable[[Any], bytes],
    answered: Callable[[Any], bytes],
    rest: dict[str, Any],
) -> list[bytes]:
    """The answer to each row of a batch: what is `answered` to one that can be used, else a rejection that ends with `rest`."""
    kind, left = row_type(features), BATCH_DETAILS
    written = []
    for row in rows:
        wrong = reasons(kind, row)
        if not wrong:
            written.append(answered(row))
            continue
        detail = wrong[: min(MAX_DETAILS, left) if left > 1 else 1]
        if more := len(wrong) - len(detail):
            detail.append({"type": "more", "loc": [], "msg": f"and {more} more", "input": None})
        left -= len(detail)
        written.append(encode({"error": "invalid_features", "detail": detail, **rest, **checks.echo(row)}))
    return written
