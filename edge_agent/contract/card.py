"""The model card: a model file's description of itself.

A model file is one ONNX file; its `metadata_props` carry one key, `edge_agent` (`METADATA_KEY`), whose value is this
card as JSON, and behind it the digest of the file (`edge_agent.contract.seal`). The card is input from outside: everything in it is checked and bounded here, once, so that the rest of
the agent can rely on it.

Rules that hold for every card that `parse` returns:

* feature names are unique, non-empty and in the order of the model's input columns;
* what a model answers is its `task` (docs/decisions/0029): a card has the fields of its own task, and of no other:
  `classification` has `labels`, unique and in the order of the model's probability columns; `regression` has `outputs`, unique and in the
  order of the model's values; `anomaly` has a `threshold`;
* every bound, quantile, example and self-test value is finite; `minimum <= maximum`; every example lies within its feature's bounds;
* every self-test row has one value per feature, and its answer: one label and, unless the model has no probabilities, one
  probability per label; or one value per output; or one score and a verdict;
* a model computes with numbers only: a boolean is 0 or 1 to it, a category its position in `categories`, a missing value NaN. Rows,
  examples and quantiles contain these codes; messages and people get the words (`Feature.word`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    WrapValidator,
    model_serializer,
    model_validator,
)

from edge_agent.contract.expected import Expected
from edge_agent.contract.trees import Trees
from edge_agent.errors import CardError

METADATA_KEY: Final = "edge_agent"
FORMAT: Final = 1
FLOAT32_MAX: Final = 3.4028234663852886e38
MAX_FEATURES: Final = 1024
MAX_CATEGORIES: Final = 256
MAX_OUTPUTS: Final = 256
#: The answers of an anomaly detector, and what both parts of it, card and graph, mean by them.
NORMAL: Final = "normal"
ANOMALY: Final = "anomaly"
_TRUE: Final = ("true", "on", "yes", "open", "1")
_FALSE: Final = ("false", "off", "no", "closed", "0")
#: What each word for true and false is to a model.
TRUTH: Final = dict.fromkeys(_TRUE, 1.0) | dict.fromkeys(_FALSE, 0.0)
MAX_CARD_BYTES: Final = 4 * 1024 * 1024
#: Longest path in an error message, in characters.
_MAX_PLACE: Final = 160

#: Levels of a feature's observed quantiles.
QUANTILE_LEVELS: Final = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
#: What is left out of a feature: agents from before know nothing of it.
_UNSAID: Final = {"kind": "number", "categories": (), "missing": False, "shares": (), "lacking": 0.0}

SEMVER: Final = r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"


def _printable(value: object) -> object:
    """Reject control characters: names end up in logs, in tables on a terminal and as JSON keys."""
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("has characters that cannot be printed")
    return value


def _or_missing(value: object, check: Callable[[object], float]) -> float:
    return math.nan if value is None else check(value)


Finite = Annotated[float, AllowInfNan(allow_inf_nan=False), Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
#: One value of a row: null (None) where it is missing, which becomes NaN here.
Value = Annotated[Finite, WrapValidator(_or_missing)]
Text = Annotated[str, StringConstraints(max_length=4096), BeforeValidator(_printable)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128), BeforeValidator(_printable)]
#: A model's name is part of topics and file names, so it is one plain word.
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Version = Annotated[str, StringConstraints(pattern=SEMVER, max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    # Unknown keys are rejected: a card for a newer format must say so in `format`, and not be half understood.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feature(_Part):
    """One input column.

    `minimum` and `maximum` are hard bounds in `unit`: what is physically possible, not what was observed; None is no bound.
    `quantiles` are those of the training data at `QUANTILE_LEVELS`, `shares` those of its words (of a boolean, false and true), `lacking`
    that of missing values. `categories` are the words of a category. `missing` says whether the model was trained with missing values,
    and so accepts them.
    """

    name: Name
    kind: Literal["number", "boolean", "category"] = "number"
    categories: Annotated[tuple[Name, ...], Field(max_length=MAX_CATEGORIES)] = ()
    missing: bool = False
    unit: Text = ""
    description: Text = ""
    minimum: Finite | None = None
    maximum: Finite | None = None
    quantiles: Annotated[tuple[Finite, ...], Field(min_length=len(QUANTILE_LEVELS), max_length=len(QUANTILE_LEVELS))]
    example: Finite
    shares: Annotated[tuple[Share, ...], Field(max_length=MAX_CATEGORIES)] = ()
    lacking: Share = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Feature:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if low > high:
            raise ValueError(f"feature {self.name!r}: minimum {low:g} is above maximum {high:g}")
        if not low <= self.example <= high:
            raise ValueError(f"feature {self.name!r}: the example {self.example:g} is outside its own bounds")
        if any(a > b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False)):
            raise ValueError(f"feature {self.name!r}: the quantiles are not in rising order")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Feature:
        if self.kind == "category":
            if len(self.categories) < 2:
                raise ValueError(f"feature {self.name!r}: a category needs two categories or more")
            _unique(f"feature {self.name!r}: the categories", self.categories)
        elif self.categories:
            raise ValueError(f"feature {self.name!r}: a {self.kind} has no categories")
        if self.kind != "number":
            if self.minimum is not None or self.maximum is not None:
                raise ValueError(f"feature {self.name!r}: a {self.kind} has no bounds")
            if self.shares and len(self.shares) != (len(self.categories) or 2):
                raise ValueError(f"feature {self.name!r}: there is not one share for each word")
            if not self.takes(self.example):
                raise ValueError(f"feature {self.name!r}: the example {self.example:g} is no {self.kind}")
        return self

    def takes(self, code: float) -> bool:
        """Tell whether a value of a row may stand for this feature."""
        if math.isnan(code):
            return self.missing
        if self.kind == "number":
            return (self.minimum is None or code >= self.minimum) and (self.maximum is None or code <= self.maximum)
        return float(code).is_integer() and 0 <= code < (len(self.categories) or 2)

    def word(self, code: float) -> float | bool | str | None:
        """Return a value of a row as messages have it."""
        if math.isnan(code):
            return None
        if self.kind == "boolean":
            return code != 0
        return self.categories[int(code)] if self.kind == "category" else code

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is said of other kinds only."""
        return {key: value for key, value in write(self).items() if getattr(self, key) != _UNSAID.get(key, self)}


class Dataset(_Part):
    """One file the model was trained on."""

    name: Text
    sha256: Sha256
    source: Text = ""
    licence: Text = ""
    attribution: Text = ""


class Quantity(_Part):
    """One number that a regression answers, in `unit`."""

    name: Name
    unit: Text = ""
    description: Text = ""


#: What `Training.libraries` names for whatever model: what it was written with.
_TOOLS: Final = frozenset({"python", "numpy", "onnx", "scikit-learn", "shap", "skl2onnx"})


class Training(_Part):
    """The model's provenance: enough to train it again. `class_counts` are the rows of each label, for a classification."""

    datasets: Annotated[tuple[Dataset, ...], Field(max_length=64)] = ()
    rows: Annotated[int, Field(ge=0)]
    class_counts: dict[Name, Annotated[int, Field(ge=0)]] = {}
    estimator: Text
    parameters: dict[Name, str | int | float | bool | None]
    libraries: dict[Name, Text]
    date: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]

    @property
    def judge(self) -> str:
        """Whose answers the examples and the self-test have: scikit-learn's, or those of the library that every model's tools stand beside."""
        others = (f"{name} {version}" for name, version in self.libraries.items() if name not in _TOOLS)
        return next(others, "scikit-learn")


class Metrics(_Part):
    """Figures and how they were measured."""

    values: dict[Name, Finite]
    method: Text


class Example(_Part):
    """A row that people recognise, with the answer of `Training.judge`: a label, or the values of a regression."""

    name: Text
    features: tuple[Value, ...]
    label: Name | None = None
    values: tuple[Finite, ...] = ()

    @model_serializer(mode="wrap")
    def _of_its_task(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(write(self), "label", "values")


class SelfTest(_Part):
    """Rows with the answers of `Training.judge` itself; every device must reproduce them before it serves.

    `rows` is (n, features) in the model's units, each value exact in what the graph takes (float32 or float64). Classification: `labels` is (n,),
    `probabilities` (n, labels), reproduced within `tolerance`, or () if the model has none. Regression: `values` is (n, outputs), and `tolerance` a share of the
    largest of an output's values. Anomaly: `labels` is (n,), `values` (n, 1) the scores, reproduced within `tolerance`.
    `shap` is (n,) or (), from the package of that name: the base and the SHAP value of each feature, for the row's label; () for most rows.
    """

    rows: Annotated[tuple[tuple[Value, ...], ...], Field(min_length=1, max_length=4096)]
    labels: tuple[Name, ...] = ()
    probabilities: tuple[tuple[Share, ...], ...] = ()
    values: tuple[tuple[Finite, ...], ...] = ()
    shap: tuple[tuple[Finite, ...], ...] = ()
    tolerance: Annotated[float, Field(gt=0.0, le=1e-3)] = 1e-6

    @model_serializer(mode="wrap")
    def _of_its_task(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(write(self), "labels", "probabilities", "values", "shap")


class ModelCard(_Part):
    """The whole card. `features` in input order, `labels` in the order of the probability columns, `outputs` in that of the
    values. A score above `threshold` is an anomaly.
    """

    format: Literal[1]
    name: ModelName
    version: Version
    description: Text = ""
    task: Literal["classification", "regression", "anomaly"] = "classification"
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    labels: Annotated[tuple[Name, ...], Field(max_length=1024)] = ()
    outputs: Annotated[tuple[Quantity, ...], Field(max_length=MAX_OUTPUTS)] = ()
    threshold: Finite | None = None
    examples: Annotated[tuple[Example, ...], Field(max_length=64)] = ()
    training: Training
    metrics: Metrics
    self_test: SelfTest
    #: What explanations are made of; None where the model is not made of trees, or of too many.
    trees: Trees | None = None
    expected: Expected | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the input columns, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def has_probabilities(self) -> bool:
        """Whether the model answers a probability for each label."""
        return bool(self.self_test.probabilities)

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        width = len(self.features)
        _unique("feature names", self.feature_names)
        for example in self.examples:
            if len(example.features) != width:
                raise ValueError(f"example {example.name!r} has {len(example.features)} values for {width} features")
            for feature, value in zip(self.features, example.features, strict=True):
                if not feature.takes(value):
                    wrong = "outside its bounds" if feature.kind == "number" else f"no {feature.kind}"
                    raise ValueError(f"example {example.name!r}: {feature.name} = {value:g} is {wrong}")
        for number, row in enumerate(self.self_test.rows):
            if len(row) != width:
                raise ValueError(f"self-test row {number} has the wrong width")
            for feature, value in zip(self.features, row, strict=True):
                if math.isnan(value) and not feature.missing:
                    raise ValueError(
                        f"self-test row {number}: {feature.name} is missing, which the model does not take"
                    )
        if self.trees is not None and max(self.trees.features) >= width:
            raise ValueError(f"trees ask about feature {max(self.trees.features)} of {width}")
        return self

    @model_validator(mode="after")
    def _of_its_task(self) -> ModelCard:
        """Check that the card has all fields of its task, and none of another."""
        for task, field in (("classification", "labels"), ("regression", "outputs"), ("anomaly", "threshold")):
            has = getattr(self, field) not in ((), None)
            if has != (self.task == task):
                raise ValueError(
                    f"a model for {self.task} has no {field}" if has else f"a model for {task} needs {field}"
                )
        if self.task == "classification" and len(self.labels) < 2:
            raise ValueError("a classification needs two labels or more")
        _unique("labels", self.labels)
        _unique("outputs", tuple(output.name for output in self.outputs))
        self._check_answers()
        self._check_trees()
        return self

    def _check_trees(self) -> None:
        """Check that what the trees add up to is what the model answers, and that explanations of the self-test are as wide as rows."""
        shap, rows = self.self_test.shap, self.self_test.rows
        if len(shap) not in {0, len(rows)} or {*map(len, shap)} - {0, 1 + len(self.features)}:
            raise ValueError("the self-test has explanations of another shape than its rows")
        if self.trees is not None:
            self.trees.require_fit(self.task, len(self.labels) or len(self.outputs))

    def _check_answers(self) -> None:
        """Check the answers of the examples and of the self-test: what there is of each, and how wide it is."""
        labels = frozenset({"classification": self.labels, "anomaly": (NORMAL, ANOMALY)}.get(self.task, ()))
        of_values = {"regression": len(self.outputs), "anomaly": 1}.get(self.task, 0)
        for example in self.examples:
            if labels and example.label not in labels:
                raise ValueError(f"example {example.name!r}: {example.label!r} is not among the labels")
            if (not labels and example.label is not None) or len(example.values) != of_values:
                raise ValueError(f"example {example.name!r}: its answer does not fit a model for {self.task}")
        test = self.self_test
        self._check_tested("labels", 1 if labels else 0, [(label,) for label in test.labels])
        # A model without probabilities has none here (docs/decisions/0034).
        self._check_tested("probabilities", len(self.labels) if test.probabilities else 0, test.probabilities)
        self._check_tested("values", of_values, test.values)
        for number, label in enumerate(test.labels):
            if label not in labels:
                raise ValueError(f"self-test row {number}: {label!r} is not among the labels")

    def _check_tested(self, what: str, width: int, given: Sequence[tuple[object, ...]]) -> None:
        if not width and given:
            raise ValueError(f"the self-test of a model for {self.task} has no {what}")
        if width and len(given) != len(self.self_test.rows):
            raise ValueError(f"the self-test needs as many {what} as it has rows")
        for number, one in enumerate(given):
            if len(one) != width:
                raise ValueError(f"self-test row {number} has the wrong width: {what}")

    @model_serializer(mode="wrap")
    def _without_other_tasks(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the fields of other tasks, and what is not known."""
        return _without_empty(write(self), "labels", "outputs", "threshold", "trees", "expected")

    def to_json(self) -> str:
        """Return the card as it is stored in the model file: compact, keys in the order of this file."""
        return self.model_dump_json(exclude_defaults=False)


def _without_empty(written: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key not in names or value not in ((), [], None)}


def _unique(what: str, names: Sequence[str]) -> None:
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"{what} are not unique: {', '.join(sorted(repeated))}")


def parse(text: str | bytes, *, where: str) -> ModelCard:
    """Read a card from its JSON.

    `where` names the file for the message. Raises `CardError` with the first error and its path.
    """
    size = len(text.encode(errors="replace") if isinstance(text, str) else text)
    if size > MAX_CARD_BYTES:
        raise CardError(f"{where}: the model card has {size} bytes, more than the {MAX_CARD_BYTES} allowed")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # The path contains keys of the card, which come from outside, so it is cut and made printable.
        place = ascii(".".join(str(part) for part in first["loc"])[:_MAX_PLACE])[1:-1] or "the card"
        more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
        raise CardError(
            f"{where}: the model card is not valid: {place}: {first['msg']}{more}; "
            "write the file again with edge-convert of this version"
        ) from None
