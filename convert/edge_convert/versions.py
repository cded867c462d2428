"""Which scikit-learn wrote a file, and what to do where this one can't use it. Looks at bytes only: nothing is unpickled here."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sklearn
from joblib import parallel_config

from edge_agent.errors import InputError
from edge_convert.classifier import split

#: scikit-learn writes its version into the state of every estimator: in pickles as a short text behind the name, in skops as JSON.
_VERSION: Final = re.compile(rb"_sklearn_version.{1,400}?(\d+\.\d+(?:\.\d+)?(?:\.?(?:a|b|rc|dev|post)\d+)?)", re.DOTALL)
#: What joblib compresses with.
_OPENERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    zlib.decompress,
    gzip.decompress,
    bz2.decompress,
    lzma.decompress,
)
#: The oldest that edge-convert itself runs with (pyproject.toml).
_OLDEST: Final = (1, 6)
_SHOWN: Final = 300


def written_by(path: Path) -> str:
    """Return the version of scikit-learn that wrote a pickle or a skops file; "" where it does not tell."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read("schema.json")
        else:
            content = path.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return ""
    for text in _unpacked(content):
        if found := _VERSION.search(text):
            return found[1].decode()
    return ""


def cause(path: Path, error: Exception) -> str:
    """Return why a file can't be opened or used here, in one line, and the way out where another scikit-learn wrote it."""
    said = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    version = written_by(path)
    if version in {"", sklearn.__version__}:
        return said
    return f"scikit-learn {version} wrote it, and {sklearn.__version__} can't use it ({said}); {_way_out(version)}"


def require_usable(path: Path, model: Any, n_features: int) -> None:
    """Raise `InputError` if an estimator that another scikit-learn wrote lacks what this one asks it for."""
    import numpy as np

    version = written_by(path)
    if version in {"", sklearn.__version__}:
        return
    try:
        with parallel_config(n_jobs=1):
            split(model)[1].get_params(deep=False)
            model.predict(np.zeros((1, n_features)))
    except AttributeError as error:
        raise InputError(f"{path}: {cause(path, error)}") from error
    except Exception:  # noqa: BLE001 - a row of zeros may well be none of its rows; verification has better ones
        return


def _way_out(version: str) -> str:
    numbers = tuple(map(int, version.split(".")[:2]))
    if numbers >= _OLDEST:
        return f"run edge-convert with scikit-learn=={version} (docs/training.md, Files of another scikit-learn)"
    return (
        f"open it with scikit-learn=={version}, read its parameters, and fit it again with a newer one "
        "(docs/training.md, Files of another scikit-learn)"
    )


def _unpacked(content: bytes) -> list[bytes]:
    texts = [content]
    for unpack in _OPENERS:
        try:
            texts.append(unpack(content))
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
            continue
    return texts
