"""Estimators from files. A model file may be an attack: skops files are opened without running code, pickles run it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import joblib
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from edge_agent.errors import InputError
from edge_convert import versions
from edge_convert.boosters import opening as boosters
from edge_convert.classifier import Estimator, inputs_of, unwrapped
from edge_convert.families.transforms import FUNCTIONS
from edge_convert.foreign.model import open_file
from edge_convert.tasks import task_of
from edge_convert.wording import first_line

#: What scikit-learn's own estimators hold besides, and what runs nothing: the type of an imputer's numbers, functions of numpy, a
#: function with arguments (of boosting with categories; skops asks about that function as well), and the curves of splines.
_HARMLESS: Final = frozenset(
    {
        "numpy.dtype",
        "functools.partial",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._bsplines._BSpline",
        *(f"numpy.{name}" for name in FUNCTIONS),
    }
)
_PICKLES: Final = (".pkl", ".pickle", ".joblib")


def open_model(path: Path, *, trust_pickle: bool = False) -> Any:
    """Return the estimator in a file (`load_estimator`), or a foreign ONNX file, of which a table has to tell what it means."""
    return open_file(path) if path.suffix.lower() == ".onnx" else load_estimator(path, trust_pickle=trust_pickle)


def load_estimator(path: Path, *, trust_pickle: bool = False) -> Estimator:
    """Return the fitted estimator or Pipeline in a file.

    Raises `InputError` if the file is missing or not what its name says, holds types from outside scikit-learn (skops),
    is a pickle without `trust_pickle`, or is none that can be served (`edge_convert.tasks`).
    """
    ending = path.suffix.lower()
    if ending not in {".skops", *_PICKLES, *boosters.ENDINGS}:
        raise InputError(
            f"{path}: an estimator is a .skops file, the own file of {boosters.FILES}, an .onnx file, or with --trust-pickle a .pkl, "
            ".pickle or .joblib file"
        )
    if ending in _PICKLES and not trust_pickle:
        raise InputError(
            f"{path}: opening a pickle runs any code that its author put into it; save the estimator with skops.io.dump, "
            "or add --trust-pickle if you made this file yourself"
        )
    if not path.is_file():
        raise InputError(f"{path}: can't be read: no such file")
    if ending in boosters.ENDINGS:
        return _estimator(path, boosters.open_file(path))
    with warnings.catch_warnings():
        # Trained with another scikit-learn: verification compares with what this one answers.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        content = _load_skops(path) if ending == ".skops" else _load_pickle(path)
    try:
        model = _estimator(path, boosters.adopted(unwrapped(content)))
        versions.require_usable(path, model, inputs_of(model)[0])
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error
    return model


def _load_skops(path: Path) -> object:
    import skops.io  # takes a second, and `train` does not need it

    try:
        untrusted = skops.io.get_untrusted_types(file=path)
    except Exception as error:
        raise InputError(f"{path}: is not a skops file: {first_line(error)}") from error
    # skops itself trusts only what it has looked at one by one; scikit-learn's own classes are as good as importing
    # scikit-learn, which has happened already.
    foreign = [name for name in untrusted if not name.startswith("sklearn.") and name not in _HARMLESS]
    if foreign:
        raise InputError(
            f"{path}: holds types from outside scikit-learn, so it was not opened: {', '.join(foreign)}"
            f"{boosters.way_out(foreign)}"
        )
    try:
        content: object = skops.io.load(path, trusted=untrusted)
    except Exception as error:
        raise InputError(f"{path}: can't be opened here: {versions.cause(path, error)}") from error
    return content


def _load_pickle(path: Path) -> object:
    try:
        content: object = joblib.load(path)
    except (ImportError, OSError) as error:
        reason = boosters.needed(getattr(error, "name", None) or "", error)
        raise InputError(
            f"{path}: {reason or f'is not a pickle that opens here: {versions.cause(path, error)}'}"
        ) from error
    except Exception as error:
        raise InputError(f"{path}: is not a pickle that opens here: {versions.cause(path, error)}") from error
    return content


def _estimator(path: Path, model: Any) -> Estimator:
    name = type(model).__name__
    try:
        check_is_fitted(model)
        inputs_of(model)
        several = isinstance(getattr(model, "classes_", None), list)
        known = several or task_of(model) is not None
    except (NotFittedError, TypeError, AttributeError):
        raise InputError(f"{path}: {name} is not a fitted scikit-learn estimator") from None
    if not known:
        raise InputError(f"{path}: {name} is not a classifier, a regressor or an isolation forest")
    if several:
        raise InputError(f"{path}: {name} answers with several labels at once; the model card holds one")
    if len(getattr(model, "classes_", (0, 1))) < 2:
        raise InputError(
            f"{path}: {name} was trained on rows that all say {model.classes_[0]!s:.80}, so there is nothing for it to tell apart; train it on "
            "rows of two labels or more, or an isolation forest on the usual ones (edge-convert train --task anomaly)"
        )
    estimator: Estimator = model
    return estimator
