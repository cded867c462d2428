"""The questions: rows drawn from the quantiles on the model card, the same ones in every run. Pure."""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from typing import Any, Final

from edge_agent.contract.card import QUANTILE_LEVELS, Feature, ModelCard

#: A prime, so that nothing falls into step with it.
COUNT: Final = 121
SEED: Final = 20_261_123


def draw_rows(card: ModelCard, count: int) -> list[dict[str, Any]]:
    """Return valid rows with an `id` each, in six figures as a sensor sends them."""
    source = random.Random(SEED)
    return [
        {"id": number, **{feature.name: _sent(feature, _draw(feature, source.random())) for feature in card.features}}
        for number in range(count)
    ]


def single(card: ModelCard) -> list[bytes]:
    """Return `COUNT` messages of one row."""
    return [json.dumps(row).encode() for row in draw_rows(card, COUNT)]


def batches(card: ModelCard, rows: int) -> list[bytes]:
    """Return messages of `rows` rows, enough that each of the single rows is in one of them."""
    drawn = draw_rows(card, -(-COUNT // rows) * rows)
    return [json.dumps(drawn[start : start + rows]).encode() for start in range(0, len(drawn), rows)]


def _sent(feature: Feature, value: float) -> float | bool | str | None:
    return value if feature.kind == "number" else feature.word(float(round(value)))


def _draw(feature: Feature, level: float) -> float:
    """Return the quantile at `level`, linear between those on the card; those of the data lie within the bounds."""
    place = min(bisect_right(QUANTILE_LEVELS, level), len(QUANTILE_LEVELS) - 1)
    below, above = QUANTILE_LEVELS[place - 1], QUANTILE_LEVELS[place]
    low, high = feature.quantiles[place - 1], feature.quantiles[place]
    return float(f"{low + (high - low) * (level - below) / (above - below):.6g}")
