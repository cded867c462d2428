"""The trees of a model on its card: what it takes to say why a row got its answer.

The graph answers; this is for explanations alone, so a model that has more than `MAX_NODES` nodes does without. How answers come of it:

    values of the leaf that a row ends in, tree by tree -> scores: their sum and `base`, or their mean -> `link` -> answer

Rules that hold for all `Trees` that a card has:

* nodes are in one list, tree after tree, the root first; `left` and `right` are places within the tree, and come after their parent:
  there is no way round in a circle;
* `x <= threshold` goes left, of an x as the graph takes it (float32 or float64). At a leaf, feature is -1, and threshold, left and right are 0;
* `values` has a row for each leaf, in the order of the leaves, all of one width.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

#: The most nodes of all trees of a card: they take about 100 bytes each in the file, and 300 in memory.
MAX_NODES: Final = 4096
#: The most values of all leaves.
MAX_VALUES: Final = 4 * MAX_NODES
LEAF: Final = -1

Number = Annotated[float, AllowInfNan(allow_inf_nan=False)]
Place = Annotated[int, Field(ge=0, lt=MAX_NODES)]


class Trees(BaseModel):
    """Trees, node by node. `covers` is the weight of the training rows that came by; `missing_left` tells where missing values
    go, and is empty in a model that takes none.

    `scores` is how many numbers the trees add up to. Where `values` have one column and there are several scores, tree `i` adds to
    score `i % scores`. `link` makes the answer of the scores: as they are; `logistic`, the second label's probability; `softmax`;
    `exponential`; or `path`, 2 to the power of minus the score divided by `expected`, an anomaly's score.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_NODES)], ...], Field(min_length=1, max_length=MAX_NODES)]
    features: Annotated[tuple[Annotated[int, Field(ge=LEAF)], ...], Field(max_length=MAX_NODES)]
    thresholds: tuple[Number, ...]
    left: tuple[Place, ...]
    right: tuple[Place, ...]
    covers: tuple[Annotated[Number, Field(ge=0)], ...]
    missing_left: tuple[bool, ...] = ()
    values: tuple[tuple[Number, ...], ...]
    scores: Annotated[int, Field(ge=1, le=1024)]
    base: tuple[Number, ...] = ()
    mean: bool = False
    link: Literal["identity", "logistic", "softmax", "exponential", "path"] = "identity"
    expected: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Trees:
        nodes = sum(self.sizes)
        for name in (
            "features",
            "thresholds",
            "left",
            "right",
            "covers",
            *(["missing_left"] if self.missing_left else []),
        ):
            if len(getattr(self, name)) != nodes:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {nodes} nodes")
        leaves = self.features.count(LEAF)
        if len(self.values) != leaves:
            raise ValueError(f"values has {len(self.values)} rows for {leaves} leaves")
        if sum(map(len, self.values)) > MAX_VALUES:
            raise ValueError(f"leaves have more than {MAX_VALUES:,} values")
        if {len(row) for row in self.values} not in ({1}, {self.scores}):
            raise ValueError(f"a leaf has one value, or {self.scores}")
        if self.base and len(self.base) != self.scores:
            raise ValueError(f"base has {len(self.base)} entries for {self.scores} scores")
        if (self.link == "path") != (self.expected is not None):
            raise ValueError("expected belongs to link path, and only there")
        begin = 0
        for number, size in enumerate(self.sizes):
            self._check_tree(number, begin, size)
            begin += size
        return self

    def require_fit(self, task: str, width: int) -> None:
        """Raise `ValueError` unless what they add up to is what a model for a task answers: `width` labels or numbers."""
        possible = {
            "classification": {("identity", width), ("softmax", width)} | ({("logistic", 1)} if width == 2 else set()),
            "regression": {("identity", width), ("exponential", width)},
            "anomaly": {("path", 1)},
        }[task]
        if (self.link, self.scores) not in possible:
            raise ValueError(f"trees of {self.scores} scores ({self.link}) do not fit what the model answers")

    def _check_tree(self, number: int, begin: int, size: int) -> None:
        """Check that each node but the root is the child of exactly one node before it."""
        children = []
        for node in range(size):
            place = begin + node
            left, right = self.left[place], self.right[place]
            if self.features[place] == LEAF:
                if left or right or self.thresholds[place] or (self.missing_left and self.missing_left[place]):
                    raise ValueError(f"tree {number}, node {node}: a leaf asks nothing and leads nowhere")
                continue
            if min(left, right) <= node:
                raise ValueError(f"tree {number}, node {node}: a child comes before its parent")
            children += [left, right]
        if sorted(children) != list(range(1, size)):
            raise ValueError(f"tree {number}: a node has no parent, or two")

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {key: value for key, value in written.items() if value not in ((), [], None)}
