"""Families that answer labels by themselves."""

from __future__ import annotations

from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import (
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid, RadiusNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import ExtraTreeClassifier

from tests.unit.convert.family import (
    BARE,
    LABELS,
    TWO,
    Family,
    forest,
    logistic,
    scaled,
    tree,
)

CLASSIFIERS = (
    Family(
        "DecisionTree, ExtraTree, RandomForest, ExtraTrees, HistGradientBoosting",
        LABELS,
        (
            tree(class_weight="balanced"),
            ExtraTreeClassifier(random_state=0),
            forest(),
            ExtraTreesClassifier(10, max_depth=4, random_state=0),
            HistGradientBoostingClassifier(max_iter=6),
            scaled(forest()),
        ),
    ),
    Family(
        "HistGradientBoosting with `categorical_features`",
        LABELS,
        (
            HistGradientBoostingClassifier(max_iter=6, categorical_features=[1, 2]),
            HistGradientBoostingClassifier(max_iter=3, categorical_features=[2], min_samples_leaf=5),
            VotingClassifier(
                [("a", tree()), ("b", HistGradientBoostingClassifier(max_iter=3, categorical_features=[1]))],
                voting="soft",
            ),
        ),
        ("codes", "three codes", "codes with gaps"),
        remark="codes; words: from a data frame. What training never saw goes where missing values go",
    ),
    Family(
        "GradientBoosting, with any `init`",
        LABELS,
        (
            GradientBoostingClassifier(n_estimators=5, random_state=0),
            GradientBoostingClassifier(n_estimators=3, random_state=0, init="zero"),
            GradientBoostingClassifier(n_estimators=3, random_state=0, init=tree()),
            scaled(GradientBoostingClassifier(n_estimators=5, random_state=0)),
        ),
    ),
    Family(
        "GradientBoosting with the loss `exponential`",
        LABELS,
        (GradientBoostingClassifier(n_estimators=5, loss="exponential", random_state=0),),
        TWO,
    ),
    Family(
        "AdaBoost",
        LABELS,
        (AdaBoostClassifier(n_estimators=6, random_state=0), AdaBoostClassifier(logistic(), n_estimators=2)),
    ),
    Family(
        "Bagging",
        LABELS,
        (
            BaggingClassifier(tree(), n_estimators=4, random_state=0),
            BaggingClassifier(tree(), n_estimators=4, max_features=0.5, random_state=0),
            scaled(BaggingClassifier(logistic(), n_estimators=3, random_state=0)),
        ),
    ),
    Family(
        "CalibratedClassifierCV: sigmoid, isotonic, temperature",
        LABELS,
        (
            CalibratedClassifierCV(forest(), cv=2),
            CalibratedClassifierCV(forest(), cv=2, method="isotonic"),
            CalibratedClassifierCV(scaled(LinearSVC()), cv=2),
            CalibratedClassifierCV(scaled(SVC()), cv=2),
        ),
        remark="also gives probabilities to what has none",
    ),
    Family(
        "Stacking",
        LABELS,
        (
            StackingClassifier([("a", tree()), ("b", forest())], final_estimator=logistic(), cv=2),
            StackingClassifier(
                [("a", tree()), ("b", scaled(logistic()))], final_estimator=tree(), cv=2, passthrough=True
            ),
        ),
    ),
    Family(
        "Voting, soft",
        LABELS,
        (
            VotingClassifier([("a", tree()), ("b", tree(4))], voting="soft"),
            VotingClassifier([("a", tree()), ("b", scaled(logistic()))], voting="soft", weights=[2, 1]),
        ),
    ),
    Family("Voting, hard", BARE, (VotingClassifier([("a", tree()), ("b", forest()), ("c", scaled(logistic()))]),)),
    Family("OneVsRest", LABELS, (OneVsRestClassifier(tree()), OneVsRestClassifier(logistic()))),
    Family("OneVsOne", BARE, (OneVsOneClassifier(logistic()), OneVsOneClassifier(tree()))),
    Family(
        "OutputCode",
        BARE,
        (
            OutputCodeClassifier(logistic(), code_size=1.5, random_state=0),
            OutputCodeClassifier(scaled(logistic()), code_size=2, random_state=0),
        ),
        ("iris",),
    ),
    Family(
        "GridSearchCV, RandomizedSearchCV, also as a step",
        LABELS,
        (
            GridSearchCV(tree(), {"max_depth": [2, 3]}, cv=2),
            RandomizedSearchCV(scaled(logistic()), {"logisticregression__C": [0.1, 1]}, n_iter=2, cv=2, random_state=0),
            scaled(GridSearchCV(tree(), {"max_depth": [2, 3]}, cv=2)),
        ),
        remark="its `best_estimator_`",
    ),
    Family(
        "FixedThreshold, TunedThreshold",
        LABELS,
        (
            FixedThresholdClassifier(forest(), threshold=0.3),
            FixedThresholdClassifier(scaled(logistic()), threshold=0.3),
            TunedThresholdClassifierCV(forest(), cv=2),
        ),
        TWO,
        remark="the label by its threshold, the probabilities as they were",
    ),
    Family(
        "LogisticRegression, SGD (`log_loss`, `modified_huber`)",
        LABELS,
        (
            logistic(),
            SGDClassifier(loss="log_loss", random_state=0),
            scaled(SGDClassifier(loss="modified_huber", random_state=0)),
        ),
    ),
    Family(
        "LinearSVC, RidgeClassifier, Perceptron, SGD (`hinge`)",
        BARE,
        (LinearSVC(), RidgeClassifier(), scaled(Perceptron()), scaled(SGDClassifier(random_state=0))),
    ),
    Family(
        "SVC, NuSVC: rbf, linear, poly, sigmoid",
        BARE,
        (
            SVC(),
            scaled(SVC()),
            scaled(SVC(kernel="linear")),
            scaled(SVC(kernel="poly")),
            scaled(SVC(kernel="sigmoid")),
            scaled(SVC(break_ties=True, decision_function_shape="ovr")),
            scaled(NuSVC(nu=0.2)),
        ),
        remark="its own probabilities may contradict the label",
    ),
    Family(
        "LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis",
        LABELS,
        (LinearDiscriminantAnalysis(), QuadraticDiscriminantAnalysis(reg_param=0.1)),
    ),
    Family(
        "GaussianNB, BernoulliNB",
        LABELS,
        (GaussianNB(), BernoulliNB(binarize=0.5)),
    ),
    Family(
        "MultinomialNB, ComplementNB",
        LABELS,
        (MultinomialNB(), ComplementNB()),
        bounds=True,
        remark="take counts, so nothing below 0",
    ),
    Family(
        "MLPClassifier",
        LABELS,
        tuple(
            scaled(MLPClassifier(hidden_layer_sizes=(5,), activation=kind, max_iter=60, random_state=0))
            for kind in ("relu", "tanh", "logistic")
        ),
    ),
    Family("NearestCentroid", LABELS, (NearestCentroid(), scaled(NearestCentroid()))),
    Family(
        "KNeighbors: euclidean, manhattan",
        LABELS,
        (KNeighborsClassifier(3), KNeighborsClassifier(weights="distance"), scaled(KNeighborsClassifier(p=1))),
        ("fine",),
        bounds=True,
        remark="up to 1,000,000 numbers, with `--bounds data`: far away all rows are equally far; refused where some of the table are, too",
    ),
    Family(
        "RadiusNeighbors",
        LABELS,
        (
            RadiusNeighborsClassifier(0.9, outlier_label="most_frequent"),
            scaled(RadiusNeighborsClassifier(1.1, weights="distance", p=1, outlier_label=0)),
        ),
        ("fine",),
        bounds=True,
        remark="as KNeighbors, with an `outlier_label`",
    ),
    Family("DummyClassifier", LABELS, (DummyClassifier(), DummyClassifier(strategy="most_frequent"))),
)
