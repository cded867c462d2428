"""Families that are a product of matrices and something behind it: linear models, discriminants, naive Bayes, small networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.errors import InputError
from edge_convert.families.net import Classified, Columns, Net


def decision(net: Net, estimator: Any, x: Columns) -> str:
    """Return `X @ coef_.T + intercept_`, (n, 1) or (n, labels)."""
    return net.affine(x.name, np.atleast_2d(estimator.coef_).T, np.atleast_1d(estimator.intercept_))


def bare(net: Net, estimator: Any, x: Columns) -> Classified:
    """A linear classifier without probabilities."""
    return net.decided(decision(net, estimator, x), len(estimator.classes_))


def logistic(net: Net, estimator: Any, x: Columns) -> Classified:
    """Logistic regression, and linear discriminant analysis, which answers as it does."""
    scores, labels = decision(net, estimator, x), len(estimator.classes_)
    if labels <= 2:
        probabilities = net.both(net.logistic(scores))
    elif getattr(estimator, "solver", "") == "liblinear" or getattr(estimator, "multi_class", "") == "ovr":
        probabilities = net.shares(net.logistic(scores))
    else:
        probabilities = net.softmax(scores)
    return net.decided(scores, labels, probabilities)


def descent(net: Net, estimator: Any, x: Columns) -> Classified:
    """Stochastic gradient descent: probabilities with two of the losses."""
    scores, labels = decision(net, estimator, x), len(estimator.classes_)
    if estimator.loss not in {"log_loss", "modified_huber"}:
        return net.decided(scores, labels)
    if estimator.loss == "log_loss":
        each = net.logistic(scores)
    else:
        each = net.op("Div", net.op("Add", net.op("Max", net.op("Min", scores, 1.0), -1.0), 1.0), 2.0)
    return net.decided(scores, labels, net.both(each) if labels <= 2 else net.shares(each))


def quadratic(net: Net, estimator: Any, x: Columns) -> Classified:
    """Quadratic discriminant analysis."""
    parts = []
    for mean, rotation, scaling in zip(estimator.means_, estimator.rotations_, estimator.scalings_, strict=True):
        turned = net.op("MatMul", net.op("Sub", x.name, mean), rotation * scaling**-0.5)
        parts.append(net.sum(net.op("Mul", turned, turned)))
    spread = np.array([np.sum(np.log(one)) for one in estimator.scalings_])
    logs = net.op(
        "Add", net.op("Mul", net.op("Add", net.beside(parts), spread), -0.5), np.log(np.asarray(estimator.priors_))
    )
    labels = len(estimator.classes_)
    if labels > 2:
        return net.decided(logs, labels, net.softmax(logs))
    ratio = net.op("Sub", net.columns(logs, [1]), net.columns(logs, [0]))
    return net.decided(ratio, labels, net.both(net.logistic(ratio)))


def gaussian_bayes(net: Net, estimator: Any, x: Columns) -> Classified:
    """Gaussian naive Bayes."""
    parts = []
    for mean, variance in zip(estimator.theta_, estimator.var_, strict=True):
        difference = net.op("Sub", x.name, mean)
        parts.append(net.sum(net.op("Div", net.op("Mul", difference, difference), variance)))
    first = np.log(estimator.class_prior_)
    rest = -0.5 * np.log(2.0 * np.pi * estimator.var_).sum(axis=1)
    joint = net.op("Add", first, net.op("Sub", rest, net.op("Mul", net.beside(parts), 0.5)))
    return Classified(net.largest(joint), net.softmax(joint))


def bernoulli_bayes(net: Net, estimator: Any, x: Columns) -> Classified:
    """Bernoulli naive Bayes."""
    source = x.name
    if estimator.binarize is not None:
        source = net.number(net.op("Greater", source, float(estimator.binarize)))
    no = np.log(1 - np.exp(estimator.feature_log_prob_))
    joint = net.affine(source, (estimator.feature_log_prob_ - no).T, estimator.class_log_prior_ + no.sum(axis=1))
    return Classified(net.largest(joint), net.softmax(joint))


def counting_bayes(net: Net, estimator: Any, x: Columns) -> Classified:
    """Multinomial and complement naive Bayes, for counts."""
    prior = estimator.class_log_prior_ if type(estimator).__name__ == "MultinomialNB" else np.zeros(1)
    joint = net.affine(x.name, estimator.feature_log_prob_.T, prior)
    return Classified(net.largest(joint), net.softmax(joint))


def network(net: Net, estimator: Any, x: Columns) -> str:
    """Return what the last layer of a multi-layer perceptron answers."""
    y, last = x.name, len(estimator.coefs_) - 1
    for layer, (weights, first) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        y = net.affine(y, weights, first)
        y = _activation(net, estimator.activation if layer < last else estimator.out_activation_, y)
    return y


def perceptrons(net: Net, estimator: Any, x: Columns) -> Classified:
    """A multi-layer perceptron that classifies."""
    y = network(net, estimator, x)
    if estimator.out_activation_ == "logistic":
        return Classified(net.above(y, 0.5), net.both(y))
    return Classified(net.largest(y), y)


def _activation(net: Net, name: str, y: str) -> str:
    if name == "identity":
        return y
    if name == "relu":
        return net.op("Max", y, 0.0)
    if name == "logistic":
        return net.logistic(y)
    if name == "softmax":
        return net.softmax(y)
    return net.op({"tanh": "Tanh", "exp": "Exp"}[name], y)


def values(net: Net, estimator: Any, x: Columns) -> str:
    """Linear regression of any kind, (n, outputs)."""
    return decision(net, estimator, x)


def generalized(net: Net, estimator: Any, x: Columns) -> str:
    """Generalized linear models: Poisson, gamma, Tweedie."""
    link = type(estimator._base_loss.link).__name__  # noqa: SLF001 - nothing public tells it
    raw = decision(net, estimator, x)
    if link not in {"IdentityLink", "LogLink"}:
        raise InputError(f"{type(estimator).__name__}: its link {link} can't be exported")
    return net.op("Exp", raw) if link == "LogLink" else raw


def projected(net: Net, estimator: Any, x: Columns) -> str:
    """Partial least squares."""
    centred = net.op("Sub", x.name, estimator._x_mean)  # noqa: SLF001 - what its `predict` subtracts
    return net.affine(centred, np.asarray(estimator.coef_).T, estimator.intercept_)
