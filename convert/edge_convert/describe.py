"""Feature sheets: what a table cannot say of itself (units, bounds, licence), written by a person as TOML.

`echonest.toml` beside this file is both the sheet of the bundled model and the example to copy.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agent.contract.card import Finite, Name, Sha256, Text
from edge_agent.errors import InputError
from edge_convert.tables import DataFile, Table

#: The sheets that ship with this package; each is used by itself when the feature columns are exactly its own.
_BUILT_IN: Final = ("echonest.toml",)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureNote(_Part):
    """One feature: `minimum` and `maximum` are what is physically possible in `unit`; None is open."""

    unit: Text = ""
    description: Text = ""
    minimum: Finite | None = None
    maximum: Finite | None = None

    @model_validator(mode="after")
    def _ordered(self) -> FeatureNote:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class ExampleNote(_Part):
    """A row that a person can recognise."""

    name: Name
    #: A boolean, or a word, where the column holds such.
    features: dict[Name, bool | Finite | Name]


class DatasetNote(_Part):
    """Where rows come from. Speaks for files with one of these sums or this layout; for every file if it has neither."""

    name: Text
    source: Text = ""
    licence: Text = ""
    attribution: Text = ""
    layout: str | None = None
    sha256: tuple[Sha256, ...] = ()

    def speaks_for(self, source: DataFile) -> bool:
        """Tell whether this is about that file."""
        anything = self.layout is None and not self.sha256
        return anything or source.sha256 in self.sha256 or source.layout == self.layout


class Figures(_Part):
    """What somebody got, under the names that `edge_convert.evaluate` uses."""

    name: Text
    values: dict[Name, Finite]


class Published(_Part):
    """Figures of others, and the files they were measured on."""

    sha256: tuple[Sha256, ...]
    figures: tuple[Figures, ...]


class Sheet(_Part):
    """A feature sheet. The empty one is what a table without a sheet gets: open bounds and no units."""

    description: Text = ""
    features: dict[Name, FeatureNote] = {}
    examples: Annotated[tuple[ExampleNote, ...], Field(max_length=64)] = ()
    datasets: tuple[DatasetNote, ...] = ()
    published: Published | None = None

    def bounded(self, table: Table) -> Sheet:
        """Return the sheet with the table's own least and largest values as bounds, where it has none."""
        features = dict(self.features)
        for place, name in enumerate(table.feature_names):
            if name in table.words:
                continue
            note, values = features.get(name, FeatureNote()), table.X[:, place]
            low = float(np.nanmin(values)) if note.minimum is None else note.minimum
            high = float(np.nanmax(values)) if note.maximum is None else note.maximum
            features[name] = note.model_copy(update={"minimum": low, "maximum": high})
        return self.model_copy(update={"features": features})

    def dataset(self, source: DataFile) -> DatasetNote | None:
        """Return what the sheet says of a file, if anything."""
        return next((note for note in self.datasets if note.speaks_for(source)), None)

    def published_on(self, sources: tuple[DataFile, ...]) -> tuple[Figures, ...]:
        """Return the figures that were measured on exactly these files."""
        if self.published is None or {source.sha256 for source in sources} != set(self.published.sha256):
            return ()
        return self.published.figures


def sheet_for(feature_names: tuple[str, ...], path: Path | None) -> Sheet:
    """Return the sheet in `path`, or the built-in one for exactly these columns, or an empty one.

    Raises `InputError` if the sheet can't be read or speaks of a feature that the table does not have.
    """
    if path is None:
        for name in _BUILT_IN:
            sheet = _parse(name, resources.files("edge_convert").joinpath(name).read_bytes())
            if set(sheet.features) == set(feature_names):
                return sheet
        return Sheet()
    try:
        sheet = _parse(str(path), path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    for name in sheet.features:
        if name not in feature_names:
            raise InputError(
                f"{path}: features.{name}: the table has no such column; it has {', '.join(feature_names)}"
            )
    for example in sheet.examples:
        if set(example.features) != set(feature_names):
            raise InputError(f"{path}: example {example.name!r} does not give each of {', '.join(feature_names)}")
    return sheet


def _parse(where: str, content: bytes) -> Sheet:
    try:
        return Sheet.model_validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
