"""What a codec made of a payload, looked at row by row."""

from __future__ import annotations

from edge_agent.payload.checks import in_full
from edge_agent.payload.features import Batch, Features, Unusable


def rows_of(outcome: Features | Unusable | Batch) -> list[Features | Unusable]:
    """The rows of a batch one by one, in order; a payload of one row, or of none, is its own only one."""
    if not isinstance(outcome, Batch):
        return [outcome]
    usable = zip(outcome.values, map(dict, outcome.echoes_of(0, len(outcome.values))), strict=True)
    rejected = rejected_of(outcome)
    count = len(outcome.values) + len(rejected)
    return [rejected.get(position) or Features(*next(usable)) for position in range(count)]


def rejected_of(batch: Batch) -> dict[int, Unusable]:
    """The rejected rows by position, each as it would be alone."""
    return {at: one if isinstance(one, Unusable) else in_full(one) for at, one in batch.rejected.items()}
