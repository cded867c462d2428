"""Explanations that `shap` made, on the card: what a device computes from the trees there is the same."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from edge_convert.shapley import explained
from sklearn.ensemble import RandomForestClassifier

from benchmarks.explain import Case, LibraryError, cases, fitted
from edge_agent.contract import card as cards
from edge_agent.errors import CardError
from edge_agent.model.explain import TOLERANCE, Shap, differences
from tests.requirements import lacking
from tests.unit.convert.boosters import THREE, X, lightgbm

CASES = list(cases())


@pytest.fixture(scope="module", autouse=True)
def _shap() -> None:
    if importlib.util.find_spec("shap") is None:
        if sys.version_info < (3, 12):
            pytest.skip("shap takes numba on this Python, so the suite does without")
        lacking("shap is not installed: pip install '.[explain]'")
    with warnings.catch_warnings():  # what it imports warns of what it imports
        warnings.simplefilter("ignore")
        import shap  # noqa: F401


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_device_explains_as_shap_does(case: Case) -> None:
    try:
        model, folded, card = fitted(case)
    except LibraryError as error:
        lacking(f"{error}: pip install '.[boosters]', sudo apt install libgomp1")
    card, why = explained(model, folded, card)
    assert why == ""
    card = cards.parse(card.to_json(), where="the model")
    shares = differences(card, folded.dtype)
    assert len(shares) == 16
    assert max(shares.values()) < TOLERANCE / 20
    assert card.trees is not None
    for row in shares:
        label = card.self_test.labels[row] if card.self_test.labels else None
        ((_,), (_,), (output,)) = Shap(card, card.trees, folded.dtype).values([card.self_test.rows[row]], [label])
        assert sum(card.self_test.shap[row]) == pytest.approx(output, rel=1e-6, abs=1e-6)
    assert "shap" in card.training.libraries
    assert card.training.judge == "scikit-learn"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_does_not_add_up_is_left_out() -> None:
    """`shap` adds up what LightGBM's random forests take the mean of."""

    def forest() -> object:
        how = {"n_estimators": 6, "verbose": -1, "n_jobs": 1, "subsample": 0.6, "subsample_freq": 1}
        return lightgbm().LGBMClassifier(boosting_type="rf", **how)

    model, folded, card = fitted(Case("forest", forest, (X, THREE)))
    same, why = explained(model, folded, card)
    assert same == card
    assert why.startswith("explain: what shap ")
    assert why.endswith("does not add up to its answers, so the self-test goes without")


def forest() -> Case:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    return Case("forest", lambda: RandomForestClassifier(3, max_depth=2, random_state=0), data)


def test_without_shap_it_says_so_and_goes_on() -> None:
    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    model, folded, card = fitted(forest())
    same, why = explained(model, folded, card, none)
    assert same == card
    assert why.startswith("explain: shap is not installed")
    assert "pip install '.[explain]'" in why


def test_a_card_without_trees_has_nothing_to_explain() -> None:
    model, folded, card = fitted(forest())
    bare = card.model_copy(update={"trees": None})
    assert explained(model, folded, bare) == (bare, "")


def test_a_model_that_shap_refuses_is_written_all_the_same() -> None:
    _, folded, card = fitted(forest())
    same, why = explained(object(), folded, card)  # type: ignore[arg-type]
    assert same == card
    assert "can't explain this model" in why


@pytest.mark.parametrize("shap", [((1.0,),), ((1.0, 0.0),) * 40, ((1.0, 0.0, 0.0, float("inf")),) * 40])
def test_explanations_of_another_shape_are_refused(shap: tuple[tuple[float, ...], ...]) -> None:
    _, _, card = fitted(forest())
    text = card.model_copy(update={"self_test": card.self_test.model_copy(update={"shap": shap})}).to_json()
    with pytest.raises(CardError, match="the model card is not valid"):
        cards.parse(text, where="the model")
