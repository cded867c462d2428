"""QuantileTransformer: where a number stands among the quantiles of the training data."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.errors import InputError
from edge_convert.families.net import Columns, Net


def quantile_transformer(net: Net, step: Any, x: Columns) -> str:
    """QuantileTransformer, uniform: the mean of interpolating upwards and downwards, which differ where quantiles are equal."""
    if step.output_distribution != "uniform":
        raise InputError(
            "QuantileTransformer: output_distribution='normal' can't be exported: it is an error function, which onnxruntime computes in float32 only; "
            "'uniform' can (trees take one as well as the other)"
        )
    references = np.asarray(step.references_, np.float64)
    parts = []
    for place, quantiles in enumerate(np.asarray(step.quantiles_, np.float64).T):
        column = net.columns(x.name, [place])
        up = _interpolated(net, column, quantiles, references)
        down = _interpolated(net, net.op("Neg", column), -quantiles[::-1], -references[::-1])
        y = net.op("Mul", net.op("Sub", up, down), 0.5)
        y = net.op("Where", net.op("Equal", column, quantiles[-1]), 1.0, y)
        parts.append(net.op("Where", net.op("Equal", column, quantiles[0]), 0.0, y))
    return net.beside(parts)


def _interpolated(net: Net, x: str, points: Any, values: Any) -> str:
    """Return what `np.interp` says of a column (n, 1): the line from the last point at or below `x` to the next one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.append(np.diff(values) / np.diff(points), 0.0)
    slopes[~np.isfinite(slopes)] = 0.0  # between equal points, which no number is
    count = net.sum(net.number(net.op("GreaterOrEqual", x, points)))
    place = net.whole(net.op("Max", net.op("Sub", count, 1.0), 0.0))
    ahead = net.op("Sub", x, net.op("Gather", points, place))
    y = net.op("Add", net.op("Mul", net.op("Gather", slopes, place), ahead), net.op("Gather", values, place))
    return net.op("Where", net.op("Less", x, float(points[0])), float(values[0]), y)
