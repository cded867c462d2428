"""Which of scikit-learn's models `edge-convert export` serves: each a few lines, on tables that scikit-learn brings along.

`FAMILIES` is what docs/training.md shows (`table`); test_families.py fits each, exports it and asks the agent's own code.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA, FastICA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern, RationalQuadratic, WhiteKernel
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    PoissonRegressor,
    RANSACRegressor,
    Ridge,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVR, LinearSVR

from tests.unit.convert.classifiers import CLASSIFIERS
from tests.unit.convert.family import (
    DIABETES,
    LABELS,
    NUMBERS,
    SCORES,
    Family,
    behind,
    grown,
    logistic,
    scaled,
    tree,
)

FAMILIES = (
    *CLASSIFIERS,
    Family(
        "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer, Binarizer",
        LABELS,
        behind(
            MinMaxScaler(),
            MinMaxScaler(clip=True),
            MaxAbsScaler(),
            RobustScaler(),
            Normalizer(),
            Binarizer(threshold=1),
        ),
        ("iris",),
    ),
    Family(
        "SimpleImputer",
        LABELS,
        behind(SimpleImputer(), SimpleImputer(strategy="median", add_indicator=True)),
        ("gaps",),
        remark="with `--missing native`, null is accepted",
    ),
    Family(
        "PolynomialFeatures, PowerTransformer, KBinsDiscretizer",
        LABELS,
        behind(
            PolynomialFeatures(2),
            PolynomialFeatures(3, interaction_only=True, include_bias=False),
            PowerTransformer(),
            KBinsDiscretizer(3, encode="ordinal"),
            KBinsDiscretizer(3, encode="onehot-dense"),
        ),
        ("iris",),
    ),
    Family(
        "PCA, TruncatedSVD, FastICA, LinearDiscriminantAnalysis as a step",
        LABELS,
        behind(
            PCA(2),
            PCA(2, whiten=True),
            TruncatedSVD(2),
            FastICA(2, random_state=0),
            LinearDiscriminantAnalysis(n_components=1),
        ),
        ("iris",),
    ),
    Family(
        "SelectKBest and the like, SelectFromModel, RFE, VarianceThreshold",
        LABELS,
        behind(SelectKBest(k=2), SelectFromModel(tree()), RFE(tree(), n_features_to_select=2), VarianceThreshold(0.1)),
        ("iris",),
    ),
    Family(
        "ColumnTransformer, FeatureUnion",
        LABELS,
        behind(
            ColumnTransformer([("s", StandardScaler(), [0, 1])], remainder="passthrough"),
            ColumnTransformer([("s", StandardScaler(), [0]), ("m", MinMaxScaler(), slice(1, 3))]),
            FeatureUnion([("p", PCA(2)), ("s", StandardScaler())]),
        ),
        ("iris",),
        remark="by number, or by name on a data frame",
    ),
    Family(
        "OneHotEncoder, OrdinalEncoder of codes or words",
        LABELS,
        (
            make_pipeline(FunctionTransformer(np.rint), OneHotEncoder(handle_unknown="ignore"), logistic()),
            make_pipeline(
                FunctionTransformer(np.rint),
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                tree(),
            ),
        ),
        ("iris",),
        remark="words: from a data frame; codes: with `handle_unknown`",
    ),
    Family(
        "FunctionTransformer of numpy's functions",
        LABELS,
        behind(FunctionTransformer(np.tanh), FunctionTransformer(np.square), FunctionTransformer()),
        ("iris",),
    ),
    Family(
        "… of those that have no answer for some numbers (`log1p`, `sqrt`), PowerTransformer (`box-cox`)",
        LABELS,
        behind(FunctionTransformer(np.log1p), FunctionTransformer(np.sqrt), PowerTransformer("box-cox")),
        ("iris",),
        bounds=True,
        remark="with bounds that rule these out",
    ),
    Family(
        "DecisionTree, RandomForest, ExtraTrees, HistGradientBoosting, GradientBoosting regressors",
        NUMBERS,
        (
            grown(),
            RandomForestRegressor(4, max_depth=4, random_state=0),
            scaled(ExtraTreesRegressor(4, max_depth=4, random_state=0)),
            HistGradientBoostingRegressor(max_iter=5),
            HistGradientBoostingRegressor(max_iter=5, categorical_features=[1]),
            GradientBoostingRegressor(n_estimators=5, random_state=0),
            GradientBoostingRegressor(n_estimators=3, random_state=0, init=grown()),
            make_pipeline(PCA(2), grown()),
        ),
        DIABETES,
    ),
    Family(
        "LinearRegression, Ridge, Lasso, ElasticNet, Huber, SGD, LinearSVR and the like; PLSRegression",
        NUMBERS,
        (
            LinearRegression(),
            Ridge(),
            Lasso(),
            ElasticNet(),
            BayesianRidge(),
            scaled(HuberRegressor()),
            scaled(SGDRegressor(random_state=0)),
            scaled(LinearSVR()),
            RANSACRegressor(random_state=0),
            PLSRegression(2),
            make_pipeline(PolynomialFeatures(2), StandardScaler(), Ridge()),
        ),
        DIABETES,
    ),
    Family(
        "Poisson, gamma, Tweedie regression",
        NUMBERS,
        (scaled(PoissonRegressor()), scaled(GammaRegressor()), scaled(TweedieRegressor())),
        DIABETES,
        bounds=True,
        remark="an exponential: without bounds far values overflow",
    ),
    Family("SVR, KernelRidge", NUMBERS, (scaled(SVR()), scaled(KernelRidge(kernel="rbf", gamma=0.1))), DIABETES),
    Family(
        "KNeighborsRegressor",
        NUMBERS,
        (KNeighborsRegressor(3),),
        ("fine numbers",),
        bounds=True,
        remark="as KNeighbors",
    ),
    Family(
        "MLPRegressor",
        NUMBERS,
        (scaled(MLPRegressor(hidden_layer_sizes=(5,), max_iter=60, random_state=0)),),
        DIABETES,
    ),
    Family(
        "AdaBoost, Bagging, Voting, Stacking regressors, TransformedTarget, searches",
        NUMBERS,
        (
            AdaBoostRegressor(n_estimators=5, random_state=0),
            BaggingRegressor(grown(), n_estimators=4, random_state=0),
            VotingRegressor([("a", grown()), ("b", scaled(Ridge()))]),
            StackingRegressor([("a", grown()), ("b", Ridge())], cv=2),
            TransformedTargetRegressor(grown(), func=np.log1p, inverse_func=np.expm1),
            TransformedTargetRegressor(scaled(Ridge()), transformer=StandardScaler()),
            GridSearchCV(grown(), {"max_depth": [2, 3]}, cv=2),
            DummyRegressor(),
        ),
        DIABETES,
    ),
    Family(
        "IsolationForest",
        SCORES,
        (IsolationForest(n_estimators=4, random_state=0), scaled(IsolationForest(n_estimators=4, random_state=0))),
        DIABETES,
        remark="nothing but scalers in front",
    ),
    Family(
        "QuantileTransformer, uniform",
        LABELS,
        behind(QuantileTransformer(n_quantiles=20), QuantileTransformer(n_quantiles=60)),
        ("iris",),
    ),
    Family(
        "SplineTransformer",
        LABELS,
        behind(
            SplineTransformer(),
            SplineTransformer(4, degree=2, include_bias=False),
            SplineTransformer(knots="quantile", n_knots=4),
        ),
        ("iris",),
        remark="beyond the knots constant; `continue` too, with bounds",
    ),
    Family(
        "… with `continue`",
        LABELS,
        behind(SplineTransformer(extrapolation="continue"), SplineTransformer(degree=1, extrapolation="continue")),
        ("iris",),
        bounds=True,
    ),
    Family(
        "GaussianProcessRegressor: RBF, Matern, RationalQuadratic, DotProduct, sums and products",
        NUMBERS,
        (
            GaussianProcessRegressor(RBF() * 2.0 + WhiteKernel(0.1, "fixed"), normalize_y=True),
            GaussianProcessRegressor(RBF([1.0, 2.0, 3.0], "fixed") + WhiteKernel(0.1, "fixed")),
            GaussianProcessRegressor(Matern(nu=1.5) + WhiteKernel(0.1, "fixed")),
            GaussianProcessRegressor(Matern(nu=2.5) + Matern(nu=0.5) + WhiteKernel(0.1, "fixed")),
            GaussianProcessRegressor(RationalQuadratic() + DotProduct() + WhiteKernel(0.1, "fixed")),
        ),
        ("fine numbers",),
        remark="its mean; up to 1,000,000 numbers; with next to no noise it takes `--tolerance`",
    ),
    Family(
        "KNNImputer, IterativeImputer",
        "",
        (make_pipeline(KNNImputer(), tree()),),
        ("iris",),
        refused="KNNImputer can't be exported: it chooses among .* put a SimpleImputer in its place",
    ),
    Family(
        "GaussianProcessClassifier, RadiusNeighborsRegressor, classes of your own",
        "",
        (GaussianProcessClassifier(),),
        ("iris",),
        refused="GaussianProcessClassifier can't be exported: its probabilities are .* take an SVC",
    ),
)


def rows_of(name: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return a table: rows and what to answer."""
    rng = np.random.default_rng(0)
    if name.startswith("fine"):  # no two distances are the same
        X = rng.normal(size=(90, 3))
        total = X.sum(axis=1)
        return X, total if name == "fine numbers" else (total > 0).astype(int)
    if "codes" in name:
        X = np.c_[rng.normal(size=300), rng.integers(0, 12, 300), rng.choice([-1.0, 0.5, 2, 7, 40, 300], 300)]
        score = X[:, 0] + 2.0 * np.isin(X[:, 1], [1, 4, 5, 9]) + 1.5 * np.isin(X[:, 2], [0.5, 300])
        y = np.digitize(score, [0.5, 1.5] if name.startswith("three") else [1.0])
        if "gaps" in name:
            X[rng.random(X.shape) < 0.1] = np.nan
        return X, y
    if name == "diabetes":
        X, y = load_diabetes(scaled=False, return_X_y=True)
        return X[::4, :5], y[::4]
    if name == "cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return X[::4, :5], y[::4]
    X, y = load_iris(return_X_y=True)
    if name == "gaps":
        X = X.copy()
        X[rng.random(X.shape) < 0.1] = np.nan
    return X, y


def table() -> str:
    """Return what docs/training.md shows."""
    lines = ["| family | answers | |", "| --- | --- | --- |"]
    lines += [f"| {one.title} | {one.answers or 'refused'} | {one.remark} |" for one in FAMILIES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
