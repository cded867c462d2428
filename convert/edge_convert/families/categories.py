"""The columns of sets of categories that trees ask about (`edge_convert.sets`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.families.net import Net
from edge_convert.sets import Members


def write_sets(net: Net, x: str, places: Mapping[Members, int], keys: str = "") -> str:
    """Write the rows `x` (n, f), float64, with the columns of the sets behind their own. `keys` (n, f) is what is looked up, if that
    is not `x`.
    """
    parts, keys = [x], keys or x
    for column, group in groupby(places, key=lambda members: members.column):
        sets = [frozenset(members.values) for members in group]
        known: Sequence[float] = sorted(frozenset().union(*sets)) or [0.0]
        table: NDArray[Any] = np.array([[float(value in members) for members in sets] for value in known])
        parts.append(net.op("MatMul", net.number(net.op("Equal", net.columns(keys, [column]), np.array(known))), table))
    return net.beside(parts)
