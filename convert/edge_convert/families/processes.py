"""Gaussian process regression: the mean is a product of the kernel with what training found, for as many rows as it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from sklearn.gaussian_process import kernels

from edge_agent.errors import InputError
from edge_convert.families.net import Columns, Net
from edge_convert.families.points import require_few, squares

_Kernel = Callable[[Net, Any, str, Any], str]


def gaussian_process(net: Net, estimator: Any, x: Columns) -> str:
    """GaussianProcessRegressor: its mean."""
    points = np.asarray(estimator.X_train_, np.float64)
    require_few(estimator, points)
    alpha = np.asarray(estimator.alpha_, np.float64)
    mean = net.op("MatMul", _kernel(net, estimator.kernel_, x.name, points), alpha.reshape(len(points), -1))
    return net.op("Add", net.op("Mul", mean, estimator._y_train_std), estimator._y_train_mean)  # noqa: SLF001 - as its `predict`


def _kernel(net: Net, kernel: Any, x: str, points: Any) -> str:
    """Return a kernel of each row with each point, (n, points), or (1, 1) where it is the same for all."""
    if type(kernel) not in _KERNELS:
        known = ", ".join(sorted(kind.__name__ for kind in _KERNELS))
        raise InputError(f"GaussianProcessRegressor: the kernel {type(kernel).__name__} can't be exported; {known} can")
    return _KERNELS[type(kernel)](net, kernel, x, points)


def _constant(net: Net, kernel: Any, x: str, _points: Any) -> str:
    return net.op("Mul", net.ones(x), float(kernel.constant_value))


def _white(net: Net, _noise: Any, x: str, _points: Any) -> str:
    # It is noise of the training rows alone.
    return net.op("Mul", net.ones(x), 0.0)


def _sum(net: Net, kernel: Any, x: str, points: Any) -> str:
    return net.op("Add", _kernel(net, kernel.k1, x, points), _kernel(net, kernel.k2, x, points))


def _product(net: Net, kernel: Any, x: str, points: Any) -> str:
    return net.op("Mul", _kernel(net, kernel.k1, x, points), _kernel(net, kernel.k2, x, points))


def _scaled_squares(net: Net, kernel: Any, x: str, points: Any) -> str:
    scale = np.asarray(kernel.length_scale, np.float64)
    return squares(net, net.op("Div", x, scale), points / scale)


def _rbf(net: Net, kernel: Any, x: str, points: Any) -> str:
    return net.op("Exp", net.op("Mul", _scaled_squares(net, kernel, x, points), -0.5))


def _matern(net: Net, kernel: Any, x: str, points: Any) -> str:
    if kernel.nu == np.inf:
        return _rbf(net, kernel, x, points)
    if kernel.nu not in {0.5, 1.5, 2.5}:
        raise InputError(f"GaussianProcessRegressor: Matern with nu={kernel.nu} can't be exported; .5, 1.5 and 2.5 can")
    distances = net.op("Sqrt", _scaled_squares(net, kernel, x, points))
    far = net.op("Mul", distances, float(np.sqrt(2 * kernel.nu)))
    falling = net.op("Exp", net.op("Neg", far))
    if kernel.nu == 0.5:
        return falling
    factor = net.op("Add", far, 1.0)
    if kernel.nu == 2.5:
        factor = net.op("Add", factor, net.op("Div", net.op("Mul", far, far), 3.0))
    return net.op("Mul", factor, falling)


def _rational_quadratic(net: Net, kernel: Any, x: str, points: Any) -> str:
    below = 2.0 * float(kernel.alpha) * float(kernel.length_scale) ** 2
    base = net.op("Add", net.op("Div", squares(net, x, points), below), 1.0)
    return net.op("Pow", base, -float(kernel.alpha))


def _dot(net: Net, kernel: Any, x: str, points: Any) -> str:
    return net.op("Add", net.op("MatMul", x, np.ascontiguousarray(points.T)), float(kernel.sigma_0) ** 2)


_KERNELS: Final[Mapping[type, _Kernel]] = {
    kernels.ConstantKernel: _constant,
    kernels.WhiteKernel: _white,
    kernels.Sum: _sum,
    kernels.Product: _product,
    kernels.RBF: _rbf,
    kernels.Matern: _matern,
    kernels.RationalQuadratic: _rational_quadratic,
    kernels.DotProduct: _dot,
}
