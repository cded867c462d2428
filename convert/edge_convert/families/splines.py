"""SplineTransformer: the B-splines of each column, as scipy computes them (`_deBoor_D` of its fitpack)."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from edge_agent.errors import InputError
from edge_convert.families.net import Columns, Net

_EXTRAPOLATIONS: Final = {"constant", "continue"}


def spline_transformer(net: Net, step: Any, x: Columns) -> str:
    """SplineTransformer. What is beyond the knots has the values of the last ones, or goes on as the last curve does."""
    if step.extrapolation not in _EXTRAPOLATIONS:
        raise InputError(
            f"SplineTransformer: extrapolation={step.extrapolation!r} can't be exported; 'constant' and 'continue' can"
        )
    if getattr(step, "handle_missing", "error") != "error":
        raise InputError("SplineTransformer: handle_missing='zeros' can't be exported; put a SimpleImputer in front")
    parts = []
    for place, spline in enumerate(step.bsplines_):
        basis = _basis(net, net.columns(x.name, [place]), spline, clip=step.extrapolation == "constant")
        count = spline.c.shape[1] - (0 if step.include_bias else 1)
        parts.append(net.columns(basis, np.arange(count)))
    return net.beside(parts)


def _basis(net: Net, x: str, spline: Any, *, clip: bool) -> str:
    """Return all splines of a column (n, 1), (n, splines)."""
    knots, degree, count = np.asarray(spline.t, np.float64), int(spline.k), len(spline.t) - int(spline.k) - 1
    if clip:
        x = net.op("Max", net.op("Min", x, float(knots[count])), float(knots[degree]))
    inner = knots[degree + 1 : count]  # those between which a row lies
    above = net.op("GreaterOrEqual", x, inner if len(inner) else np.array([np.inf]))
    last = net.op("Add", net.whole(net.sum(net.number(above))), degree)  # the knot at or below x

    @cache
    def knot(ahead: int) -> str:
        return net.op("Gather", knots, net.op("Add", last, ahead))

    values = [net.ones(x)]
    for level in range(1, degree + 1):
        before, values = values, [net.op("Mul", values[0], 0.0)]
        for n in range(1, level + 1):
            low, high = knot(n - level), knot(n)
            width = net.op("Sub", high, low)
            none = net.op("Equal", width, 0.0)
            share = net.op("Where", none, 0.0, net.op("Div", before[n - 1], net.op("Where", none, 1.0, width)))
            values[n - 1] = net.op("Add", values[n - 1], net.op("Mul", share, net.op("Sub", high, x)))
            values.append(net.op("Mul", share, net.op("Sub", x, low)))
    first = net.op("Sub", last, degree)
    return net.running_sum(
        [
            net.op("Mul", net.number(net.op("Equal", net.op("Add", first, n), np.arange(count))), value)
            for n, value in enumerate(values)
        ]
    )
