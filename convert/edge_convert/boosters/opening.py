"""Opens files of other libraries, and finds their models in what a pickle held. The only module that knows which libraries there are."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from sklearn.pipeline import Pipeline

from edge_agent.errors import InputError
from edge_convert.boosters.model import Boosted
from edge_convert.trial import require_opens


class _Library(NamedTuple):
    title: str
    package: str
    reader: str
    save: str


_LIBRARIES: Final = (
    _Library("XGBoost", "xgboost", "edge_convert.boosters.xgb", "model.save_model('model.json')"),
    _Library("LightGBM", "lightgbm", "edge_convert.boosters.lgbm", "model.booster_.save_model('model.txt')"),
    _Library("CatBoost", "catboost", "edge_convert.boosters.cat", "model.save_model('model.cbm')"),
)
#: The libraries' own files.
_BY_ENDING: Final = {".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm", ".cbm": "catboost"}
ENDINGS: Final = tuple(_BY_ENDING)
#: For people.
FILES: Final = ", ".join(
    f"{one.title} ({', '.join(ending for ending, package in _BY_ENDING.items() if package == one.package)})"
    for one in _LIBRARIES
)


def open_file(path: Path) -> Boosted:
    """Return the model in a library's own file, which holds no code. Raises `InputError`.

    These libraries are written in C++, and may crash or loop over what is none of their files: it is tried in a process apart first.
    """
    _import(path)
    require_opens(path)
    return opened(path)


def opened(path: Path) -> Boosted:
    """Open a library's own file in this process. Raises `InputError`."""
    library = _import(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the library will no longer do in a coming version
        model: Boosted = _reader(library).open_file(path)
    return model


def _import(path: Path) -> _Library:
    library = next(one for one in _LIBRARIES if one.package == _BY_ENDING[path.suffix.lower()])
    try:
        importlib.import_module(library.package)
    except (ImportError, OSError) as error:
        raise InputError(f"{path}: {needed(library.package, error)}") from error
    return library


def adopted(model: Any) -> Any:
    """Return what a pickle held with a booster in it, alone or as a Pipeline's last step, wrapped. Raises `InputError`."""
    if isinstance(model, Pipeline):
        last = adopted(model.steps[-1][1])
        return model if last is model.steps[-1][1] else Pipeline([*model.steps[:-1], (model.steps[-1][0], last)])
    root = type(model).__module__.partition(".")[0]
    for library in _LIBRARIES:
        if root == library.package:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _reader(library).wrap(model)
    return model


def inside(model: Any) -> str:
    """Return what to do with a booster that is a part of another model; "" for what is none."""
    if all(type(model).__module__.partition(".")[0] != library.package for library in _LIBRARIES):
        return ""
    return "inside of another model can't be exported; alone, or as the last step of a Pipeline, it can"


def needed(package: str, error: Exception) -> str:
    """Return what to do where a package can't be imported that a model needs; "" where it is none of the libraries here."""
    if "libgomp" in str(error):  # which LightGBM takes from the system
        return f"needs the system's library libgomp, which is not installed here ({error}); sudo apt install libgomp1"
    for library in _LIBRARIES:
        if package.partition(".")[0] == library.package:
            return (
                f"is a model of {library.title}, which is not installed here ({error}); pip install {library.package}, "
                "in the version that it was trained with"
            )
    return ""


def _reader(library: _Library) -> ModuleType:
    return importlib.import_module(library.reader)


def way_out(types: Iterable[str]) -> str:
    """Return what to do instead of opening a file of skops with these types; "" where they are of none of the libraries here."""
    for library in _LIBRARIES:
        if any(one.partition(".")[0] == library.package for one in types):
            return f"; save a model of {library.title} as its own file: {library.save}"
    return ""
