"""How a column differs from training, in words."""

from __future__ import annotations

from typing import Final

from edge_agent.contract.card import QUANTILE_LEVELS
from edge_agent.model.drift import OVER, Finding
from edge_agent.model.reference import Column

_LEVELS: Final = QUANTILE_LEVELS[1:-1]
#: A difference on the other side that is so much of the larger one is told as well.
_BOTH: Final = 0.4
#: A share of missing values that is so much larger, or smaller, is told first.
_OFTEN: Final = 0.1
_SAME: Final = "as in training"
#: Most characters of a label that is quoted.
_LONGEST: Final = 60


def how(finding: Finding) -> str:
    """Return what changed."""
    column = finding.column
    if not finding.rows:
        return "no values"
    if column.mean is None and finding.psi is None:
        return "nothing to compare with on the model card"
    if finding.effect < OVER:
        return _SAME
    if column.mean is not None:
        return _of_mean(finding.mean or 0.0, column.mean)
    return _of_shares(finding)


def _of_shares(finding: Finding) -> str:
    column = finding.column
    if column.lacking and abs(finding.missing - column.lacking) >= _OFTEN:
        often = "more" if finding.missing > column.lacking else "less"
        return f"missing {often} often than in training: {_percent(finding.missing)}, there {_percent(column.lacking)}"
    if column.words:
        return _of_parts(finding)
    return _of_levels(finding) if column.kind == "number" else _of_codes(finding)


def _of_mean(now: float, expected: float) -> str:
    often = "higher" if now > expected else "lower"
    return f"{often} than expected: {now:.2f} on average, {expected:.2f} where the model was evaluated"


def _of_codes(finding: Finding) -> str:
    """Return what changed of words whose shares in training are not known."""
    if finding.column.kind == "boolean":
        return f"true in {_percent(finding.mean or 0.0)}, {'more' if _is_higher(finding) else 'less'} often than in training"
    return "other categories than in training"


def _of_parts(finding: Finding) -> str:
    column = finding.column
    changes = [now - before for now, before in zip(finding.shares, column.shares, strict=True)]
    place = max(range(len(changes)), key=lambda one: abs(changes[one]))
    often = "more" if changes[place] > 0 else "less"
    word = column.words[place][:_LONGEST]
    return f"{word!r} {often} often than in training: {_percent(finding.shares[place])}, there {_percent(column.shares[place])}"


def _of_levels(finding: Finding) -> str:
    # How much more lies below each quantile than in training did.
    more = [now - level for now, level in zip(finding.levels, _LEVELS, strict=True)]
    low, high = (max(range(len(more)), key=lambda one: sign * more[one]) for sign in (1, -1))
    lower, higher = more[low], -more[high]
    if lower > 0 < higher and min(lower, higher) >= _BOTH * max(lower, higher):
        what = "more spread out than" if low < high else "closer together than"
        parts = (_side(finding, low, is_above=False), _side(finding, high, is_above=True))
        return f"{what} in training: {parts[0]}, {parts[1]}"
    if higher > lower:
        return f"higher than in training: {_side(finding, high, is_above=True)}"
    return f"lower than in training: {_side(finding, low, is_above=False)}"


def _side(finding: Finding, place: int, *, is_above: bool) -> str:
    level, now = _LEVELS[place], finding.levels[place]
    share, before = (1.0 - now, 1.0 - level) if is_above else (now, level)
    where = "above" if is_above else "below"
    name = "median" if level == 0.5 else f"{level * 100:g} % quantile"
    return f"{_percent(share)} {where} its {name} ({value(finding.column, finding.column.quantiles[place + 1])}), there {_percent(before)}"


def value(column: Column, number: float) -> str:
    """Return a value with its unit."""
    return f"{number:.4g}{f' {column.unit}' if column.unit else ''}"


def _is_higher(finding: Finding) -> bool:
    return sum(now - level for now, level in zip(finding.levels, _LEVELS, strict=True)) < 0


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 0.01 else f"{share * 100:.0f} %"
