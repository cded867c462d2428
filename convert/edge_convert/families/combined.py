"""Models made of models: votes, means, calibration, stacking, one model a label."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from edge_agent.errors import InputError
from edge_convert.families.grown import add_up
from edge_convert.families.net import Classified, Columns, Net
from edge_convert.families.points import rank_by_pairs, squares
from edge_convert.families.transforms import inverse
from edge_convert.leaves import Sum
from edge_convert.trees import Tree, plain

_TREES = (DecisionTreeClassifier, ExtraTreeClassifier)


def probabilities_of(net: Net, estimator: Any, x: Columns) -> str:
    """Return what `predict_proba` says. Raises `InputError` where there is none that can be exported."""
    found = net.classify(estimator, x).probabilities
    if found is None:
        raise InputError(
            f"{type(estimator).__name__}: its probabilities can't be exported, and the model around it asks for them"
        )
    return found


def _score(net: Net, estimator: Any, x: Columns) -> str:
    """Return (n, 1) what scikit-learn compares of a model for two labels: its decision, or the second one's probability."""
    said = net.classify(estimator, x)
    if hasattr(estimator, "decision_function"):
        if said.decision is None:
            raise InputError(
                f"{type(estimator).__name__}: its decision_function can't be exported, and the model around it asks for it"
            )
        return said.decision
    if said.probabilities is None:
        return net.op("Unsqueeze", net.number(said.place), np.array([1]))
    return net.columns(said.probabilities, [1])


def constant(net: Net, estimator: Any, x: Columns) -> Classified:
    """What one_vs_rest puts where all rows have the same label: always that."""
    one = net.ones(x.name)
    second = net.op("Mul", one, float(np.ravel(estimator.y_)[0]))
    return Classified(net.flat(net.whole(second)), net.both(second), second)


def dummy(net: Net, estimator: Any, x: Columns) -> Classified:
    """DummyClassifier, except where it draws at random."""
    if estimator.strategy not in {"prior", "most_frequent", "constant"}:
        raise InputError(f"DummyClassifier: strategy {estimator.strategy!r} answers at random, so it can't be exported")
    row = np.zeros((1, max(1, getattr(estimator, "n_features_in_", 1))))
    probabilities = net.op("Mul", net.ones(x.name), estimator.predict_proba(row))
    place = int(np.flatnonzero(estimator.classes_ == estimator.predict(row)[0])[0])
    return Classified(net.whole(net.op("Mul", net.flat(net.ones(x.name)), float(place))), probabilities)


def dummy_value(net: Net, estimator: Any, x: Columns) -> str:
    """DummyRegressor."""
    return net.op("Mul", net.ones(x.name), np.asarray(estimator.constant_, np.float64).reshape(1, -1))


def _as_one_forest(estimators: Any, features: Any, values: Any) -> list[Tree]:
    """Return the trees of members that are trees, with their columns as the whole model numbers them."""
    trees = []
    for member, columns in zip(estimators, features, strict=True):
        tree = plain(member.tree_)
        feature = np.asarray(columns, np.int64)[np.where(tree.is_leaf, 0, tree.feature)]
        trees.append(Tree(**{**tree.__dict__, "feature": feature, "values": values(member, tree.values)}))
    return trees


def adaboost(net: Net, estimator: Any, x: Columns) -> Classified:
    """AdaBoost: each member's label adds its weight."""
    labels, members = estimator.classes_, estimator.estimators_
    others = -1 / (len(labels) - 1)
    weights = [float(weight) for weight, _ in zip(estimator.estimator_weights_, members, strict=False)]
    weight_of = dict(zip(map(id, members), weights, strict=True))

    def votes(member: Any, values: Any) -> Any:
        weight, said = weight_of[id(member)], np.asarray(member.classes_)[values.argmax(axis=1)]
        return np.where(said[:, np.newaxis] == labels, weight, others * weight)

    if all(type(member) in _TREES for member in members):
        trees = _as_one_forest(members, [np.arange(member.n_features_in_) for member in members], votes)
        total = add_up(net, x.name, trees, Sum())
    else:
        parts = []
        for member, weight in zip(members, weights, strict=True):
            said = np.asarray(member.classes_)[:, np.newaxis] == labels
            table = np.where(said, weight, others * weight)
            parts.append(net.op("Gather", table, net.classify(member, x).place))
        total = net.running_sum(parts)
    shares = net.op("Div", total, float(estimator.estimator_weights_.sum()))
    if len(labels) > 2:
        # scikit-learn: softmax(decision / (labels - 1))
        return Classified(net.largest(shares), net.softmax(net.op("Div", shares, float(len(labels) - 1))), shares)
    decision = net.op("Add", net.op("Neg", net.columns(shares, [0])), net.columns(shares, [1]))
    halves = net.op("Div", net.op("Mul", decision, np.array([[-1.0, 1.0]])), 2.0)
    return Classified(net.above(decision), net.softmax(halves), decision)


def bagging(net: Net, estimator: Any, x: Columns) -> Classified:
    """Bagging: the mean of the members' probabilities, or of their votes."""
    labels, members = np.arange(len(estimator.classes_)), estimator.estimators_
    count = float(len(members))
    if all(type(member) in _TREES for member in members):
        trees = _as_one_forest(
            members,
            estimator.estimators_features_,
            lambda member, values: values @ (member.classes_.astype(int)[:, np.newaxis] == labels).astype(np.float64),
        )
        mean = add_up(net, x.name, trees, Sum(count=count))
        return Classified(net.largest(mean), mean)
    parts = []
    for member, columns in zip(members, estimator.estimators_features_, strict=True):
        own = Columns(net.columns(x.name, columns))
        if hasattr(member, "predict_proba"):
            parts.append(net.spread(labels, member.classes_.astype(int), probabilities_of(net, member, own)))
        else:
            said = net.among(labels, member.classes_.astype(int), net.classify(member, own).place)
            parts.append(net.op("Gather", np.eye(len(labels)), said))
    mean = net.op("Div", net.running_sum(parts), count)
    return Classified(net.largest(mean), mean)


def voting(net: Net, estimator: Any, x: Columns) -> Classified:
    """Voting: soft is a mean of probabilities, hard a count of labels."""
    labels = np.arange(len(estimator.classes_))
    kept = [
        weight
        for (_, given), weight in zip(
            estimator.estimators, estimator.weights or [None] * len(estimator.estimators), strict=True
        )
        if not (isinstance(given, str) and given == "drop")
    ]
    weights = [1.0 if weight is None else float(weight) for weight in kept]
    soft = estimator.voting == "soft"
    parts = []
    for member, weight in zip(estimator.estimators_, weights, strict=True):
        if soft:
            own = net.spread(labels, member.classes_, probabilities_of(net, member, x))
        else:
            own = net.op(
                "Gather", np.eye(len(labels)), net.among(labels, member.classes_, net.classify(member, x).place)
            )
        parts.append(own if weight == 1 else net.op("Mul", own, weight))
    total = net.running_sum(parts)
    if not soft:
        return Classified(net.largest(total))
    mean = net.op("Div", total, float(np.sum(weights)))
    return Classified(net.largest(mean), mean)


def calibrated(net: Net, estimator: Any, x: Columns) -> Classified:
    """CalibratedClassifierCV: the mean of what calibrators make of the members' decisions, or probabilities."""
    labels = len(estimator.classes_)
    parts = []
    for member in estimator.calibrated_classifiers_:
        said = net.classify(member.estimator, x)
        scores = said.decision if hasattr(member.estimator, "decision_function") else said.probabilities
        if scores is None:
            raise InputError(
                f"{type(member.estimator).__name__}: its scores can't be exported, so nor can their calibration"
            )
        if member.method == "temperature":
            parts.append(_warmed(net, member, scores, labels))
            continue
        if labels == 2 and not hasattr(member.estimator, "decision_function"):
            scores = net.columns(scores, [1])
        if not np.array_equal(member.estimator.classes_, estimator.classes_):
            raise InputError(
                "CalibratedClassifierCV: a fold had not all labels, so it can't be exported; train it with fewer folds (cv)"
            )
        each = [
            _calibrate(net, calibrator, net.columns(scores, [place]))
            for place, calibrator in enumerate(member.calibrators)
        ]
        own = net.both(each[0]) if labels == 2 else net.shares(net.beside(each))
        parts.append(own)
    mean = net.op("Div", net.running_sum(parts), float(len(parts)))
    return Classified(net.largest(mean), mean)


def _warmed(net: Net, member: Any, scores: str, labels: int) -> str:
    decision = hasattr(member.estimator, "decision_function")
    if decision and labels == 2:
        logits = net.op("Mul", scores, np.array([[-1.0, 1.0]]))
    elif decision:
        logits = scores
    else:
        logits = net.op("Log", net.op("Add", scores, 1e-12))  # as scikit-learn does
    return net.softmax(net.op("Mul", logits, float(member.calibrators[0].beta_)))


def _calibrate(net: Net, calibrator: Any, score: str) -> str:
    """Return (n, 1) a calibrator's probability: a sigmoid, or a line from knot to knot."""
    if hasattr(calibrator, "a_"):
        return net.logistic(
            net.op("Neg", net.op("Add", net.op("Mul", score, float(calibrator.a_)), float(calibrator.b_)))
        )
    knots, heights = np.asarray(calibrator.X_thresholds_, np.float64), np.asarray(calibrator.y_thresholds_, np.float64)
    if len(knots) == 1:
        return net.op("Mul", net.ones(score), float(heights[0]))
    inside = net.op("Max", net.op("Min", score, knots[-1]), knots[0])
    piece = net.whole(net.sum(net.number(net.op("Greater", inside, knots[1:-1])))) if len(knots) > 2 else None
    slopes = np.diff(heights) / np.diff(knots)
    if piece is None:
        return net.op("Add", net.op("Mul", net.op("Sub", inside, knots[0]), slopes[0]), heights[0])
    low, height, slope = (net.op("Gather", table, piece) for table in (knots[:-1], heights[:-1], slopes))
    return net.op("Add", net.op("Mul", slope, net.op("Sub", inside, low)), height)


def _stacked(net: Net, estimator: Any, x: Columns) -> Columns:
    parts = []
    for member, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        if method == "predict" and not hasattr(member, "classes_"):
            parts.append(net.estimate(member, x))
            continue
        said = net.classify(member, x)
        own = {"predict_proba": said.probabilities, "decision_function": said.decision}.get(method)
        if method == "predict":
            values = np.asarray(member.classes_, np.float64)[:, np.newaxis]
            own = net.op("Gather", values, said.place)
        if own is None:
            raise InputError(f"{type(member).__name__}: its {method} can't be exported, and the stack asks for it")
        parts.append(net.columns(own, [1]) if method == "predict_proba" and len(member.classes_) == 2 else own)
    return Columns(net.beside([*parts, x.name] if estimator.passthrough else parts))


def stacking(net: Net, estimator: Any, x: Columns) -> Classified:
    """StackingClassifier."""
    last = estimator.final_estimator_
    said = net.classify(last, _stacked(net, estimator, x))
    return said._replace(place=net.among(np.arange(len(estimator.classes_)), last.classes_, said.place))


def stacked_values(net: Net, estimator: Any, x: Columns) -> str:
    """StackingRegressor."""
    return net.estimate(estimator.final_estimator_, _stacked(net, estimator, x))


def one_vs_rest(net: Net, estimator: Any, x: Columns) -> Classified:
    """OneVsRestClassifier: labels by decisions, probabilities by probabilities."""
    if estimator.multilabel_:
        raise InputError("OneVsRestClassifier: answers several labels at once; train a model for each")
    members = estimator.estimators_
    scores = net.beside([_score(net, member, x) for member in members])
    probabilities = None
    if hasattr(estimator, "predict_proba"):
        each = [net.columns(probabilities_of(net, member, x), [1]) for member in members]
        if len(each) == 1:
            probabilities = net.both(each[0])
        else:
            beside = net.beside(each)
            total = net.sum(beside)
            none = net.op("Equal", total, 0.0)
            probabilities = net.op("Div", beside, net.op("Where", none, 1.0, total))
    if len(members) > 1:
        return Classified(net.largest(scores), probabilities, scores)
    threshold = 0.0 if hasattr(members[0], "decision_function") else 0.5
    return Classified(net.above(scores, threshold), probabilities, scores)


def one_vs_one(net: Net, estimator: Any, x: Columns) -> Classified:
    """OneVsOneClassifier."""
    if estimator.pairwise_indices_ is not None:
        raise InputError("OneVsOneClassifier: of a precomputed kernel it can't be exported")
    labels = len(estimator.classes_)
    scores, seconds = [], []
    for member, _ in zip(estimator.estimators_, combinations(range(labels), 2), strict=True):
        scores.append(_score(net, member, x))
        seconds.append(net.op("Unsqueeze", net.number(net.classify(member, x).place), np.array([1])))
    ranked = rank_by_pairs(net, net.beside(seconds), net.beside(scores), labels)
    if labels > 2:
        return Classified(net.largest(ranked), None, ranked)
    threshold = 0.0 if hasattr(estimator.estimators_[0], "decision_function") else 0.5
    second = net.columns(ranked, [1])
    return Classified(net.above(second, threshold), None, second)


def output_code(net: Net, estimator: Any, x: Columns) -> Classified:
    """OutputCodeClassifier: the label of which the code is next to what the members say."""
    said = net.beside([_score(net, member, x) for member in estimator.estimators_])
    return Classified(net.op("ArgMin", squares(net, said, np.asarray(estimator.code_book_)), axis=1, keepdims=0))


def thresholded(net: Net, estimator: Any, x: Columns) -> Classified:
    """FixedThresholdClassifier and TunedThresholdClassifierCV: a label by a threshold, probabilities as they were."""
    inner = estimator.estimator_
    fixed = hasattr(estimator, "threshold")
    if len(inner.classes_) != 2:
        raise InputError(f"{type(estimator).__name__}: is for two labels")
    positive = estimator.pos_label if fixed else estimator._curve_scorer._get_pos_label()  # noqa: SLF001 - as its predict
    place = 1 if positive is None else int(np.flatnonzero(inner.classes_ == positive)[0])
    said = net.classify(inner, x)
    by_probability = estimator.response_method == "predict_proba" or (
        estimator.response_method == "auto" and hasattr(inner, "predict_proba")
    )
    threshold = estimator.threshold if fixed else estimator.best_threshold_
    if threshold == "auto":
        threshold = 0.5 if by_probability else 0.0
    if by_probability and said.probabilities is not None:
        score = net.columns(said.probabilities, [place])
    elif not by_probability and said.decision is not None:
        score = said.decision if place == 1 else net.op("Neg", said.decision)
    else:
        raise InputError(f"{type(inner).__name__}: its scores can't be exported, so nor can a threshold of them")
    above = net.above(score, float(threshold), equal=True)
    return Classified(above if place == 1 else net.op("Sub", 1, above), said.probabilities, said.decision)


def mean_of_values(net: Net, estimator: Any, x: Columns) -> str:
    """BaggingRegressor."""
    parts = [
        net.estimate(member, Columns(net.columns(x.name, columns)))
        for member, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True)
    ]
    return net.op("Div", net.running_sum(parts), float(len(parts)))


def voted_values(net: Net, estimator: Any, x: Columns) -> str:
    """VotingRegressor."""
    weights = estimator.weights
    kept = [
        1.0 if weights is None else float(weights[place])
        for place, (_, given) in enumerate(estimator.estimators)
        if not (isinstance(given, str) and given == "drop")
    ]
    parts = [
        net.op("Mul", net.estimate(member, x), weight)
        for member, weight in zip(estimator.estimators_, kept, strict=True)
    ]
    return net.op("Div", net.running_sum(parts), float(np.sum(kept)))


def median_of_values(net: Net, estimator: Any, x: Columns) -> str:
    """AdaBoostRegressor: the weighted median."""
    members = estimator.estimators_
    said = net.beside([net.estimate(member, x) for member in members])
    ordered, places = net.add_pair("TopK", said, net.constant([len(members)], np.int64), axis=1, largest=0, sorted=1)
    weights = net.op("Gather", np.asarray(estimator.estimator_weights_[: len(members)], np.float64), places)
    running = net.op("CumSum", weights, np.asarray(1))
    half = net.op("Mul", net.columns(running, [len(members) - 1]), 0.5)
    first = net.op("ArgMax", net.number(net.op("GreaterOrEqual", running, half)), axis=1, keepdims=1)
    return net.op("GatherElements", ordered, first, axis=1)


def each_by_its_own(net: Net, estimator: Any, x: Columns) -> str:
    """MultiOutputRegressor."""
    return net.beside([net.estimate(member, x) for member in estimator.estimators_])


def transformed(net: Net, estimator: Any, x: Columns) -> str:
    """TransformedTargetRegressor."""
    return inverse(net, estimator.transformer_, net.estimate(estimator.regressor_, x))


def inner(net: Net, estimator: Any, x: Columns) -> str:
    """RANSACRegressor: the model that it found."""
    return net.estimate(estimator.estimator_, x)
