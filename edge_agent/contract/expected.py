"""What a model answers to data like its training data: what its answers are compared with on the device, to see drift.

Not the labels of the training rows: a model that answers the common label too often does so from the first day on. From rows that were held out where
the model was evaluated, because of those that it was fitted on it is surer than it will ever be again. Of the confidence the mean is all that can be compared: a tree
has few values, and those of the trees of an evaluation are others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, model_validator

#: Those at which quantiles are given: `edge_agent.contract.card.QUANTILE_LEVELS`.
_LEVELS: Final = 9
_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Number = Annotated[float, AllowInfNan(allow_inf_nan=False)]
_Quantiles = Annotated[tuple[_Number, ...], Field(min_length=_LEVELS, max_length=_LEVELS)]


class Expected(BaseModel):
    """Answers to so many `rows`, which were `held_out` or those of training: how often each of `labels`, the mean of the `confidence`
    in `means`, and the `quantiles` of the `score`, or of a regression's outputs by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Annotated[int, Field(ge=1)]
    held_out: bool
    labels: Annotated[dict[_Name, Annotated[int, Field(ge=0)]], Field(max_length=1024)] = {}
    means: dict[Literal["confidence"], Annotated[float, Field(ge=0.0, le=1.0)]] = {}
    quantiles: Annotated[dict[_Name, _Quantiles], Field(max_length=256)] = {}

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name, values in self.quantiles.items():
            if any(a > b for a, b in pairwise(values)):
                raise ValueError(f"expected {name!r}: the quantiles are not in rising order")
        return self
