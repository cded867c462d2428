"""Loads settings: the only reader of the configuration's files and of the environment.

A configuration is `X.toml`, then every `X.d/*.toml` beside it in order of name, then the environment variables
`EDGE_AGENT_<SECTION>__<KEY>`. Later values override earlier ones, key by key; the routes of all files are combined.
Without any of them, the defaults apply. Rules:

* Unknown keys are rejected, with the nearest known one.
* Any problem with a file, its path or the environment becomes a `SettingsError`: one sentence that names the file. Size
  and depth are checked before parsing.
* A relative path is relative to the file that contains it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from edge_agent.config import toml
from edge_agent.config.explain import Location, explain, place_of, unknown_variable
from edge_agent.config.settings import SECTIONS, Settings, host_name, one_word
from edge_agent.config.updating import KEY_SUFFIX
from edge_agent.errors import FileError, SettingsError
from edge_agent.host import files

DEFAULT_FILE: Final = Path("/etc/edge-agent/edge-agent.toml")
ENVIRONMENT: Final = "EDGE_AGENT_"
_TOML: Final = ".toml"
#: Largest file in bytes, and most files in the directory beside it.
_MAX_FILE_BYTES: Final = 1 << 18
_MAX_FRAGMENTS: Final = 256
#: Settings that name files, by their table.
_PATHS: Final = {
    ("mqtt",): ("password_file", "socket"),
    ("mqtt", "tls"): ("ca", "certificate", "key"),
    ("models",): ("directory",),
}


class _Layer(NamedTuple):
    """The settings from one file or the environment; `routes` are the numbers of its routes among all, from 0."""

    where: str
    content: dict[str, Any]
    routes: range

    @property
    def has_wrong_routes(self) -> bool:
        return not isinstance(self.content.get("route", []), list)

    def without_routes(self) -> _Layer:
        content = {key: value for key, value in self.content.items() if key != "route"}
        return self._replace(content=content, routes=range(0))


def load(path: Path | None = None) -> Settings:
    """Read the settings from `path` (None: `DEFAULT_FILE` if it exists), the directory beside it, and the environment.

    The default node id includes the file's name unless that is edge-agent.toml. Raises `SettingsError`.
    """
    explicit, path = path is not None, path or DEFAULT_FILE
    layers, content = [], dict[str, Any]()
    for source in _sources(path, explicit=explicit):
        layer = _read(source, len(_routes(content)))
        layers.append(layer)
        content = _merged(content, layer.content)
    if above := _environment():
        if "route" in above:  # replaces all others
            layers = [layer.without_routes() for layer in layers]
        layers.append(_Layer("environment", above, range(len(_routes(above)))))
        content = _over(content, above)
    try:
        settings = Settings.model_validate(_with_node_id(content, path))
        settings.routes()
    except ValidationError as error:
        where = _where(layers, place_of(error))
        raise SettingsError(f"{where}: {explain(error, Settings, SECTIONS)}{_counted(layers, error)}") from None
    except SettingsError as error:
        raise SettingsError(f"{_of_routes(layers, str(error))}: {error}{_counted(layers, error)}") from None
    return settings


def sources(path: Path | None = None) -> list[Path]:
    """Return the files that `load` reads for `path`, in order. Raises `SettingsError`."""
    return _sources(path or DEFAULT_FILE, explicit=path is not None)


def fragments(path: Path) -> Path | None:
    """Return the directory whose files are read together with `path`; None unless `path` ends in .toml."""
    return path.with_suffix(".d") if path.suffix == _TOML else None


def _sources(path: Path, *, explicit: bool) -> list[Path]:
    beside = fragments(path)
    try:
        there = files.exists(path)
        more = [] if beside is None else files.listing(beside, _TOML)
    except FileError as error:
        raise SettingsError(str(error)) from error
    if len(more) > _MAX_FRAGMENTS:
        raise SettingsError(f"{beside}: {len(more)} files, but at most {_MAX_FRAGMENTS} are read; merge some of them")
    if explicit and not there and not (beside is not None and beside.is_dir()):
        raise SettingsError(f"{path}: no such file; leave --config out to run with the defaults")
    return [path] * there + more


def _read(path: Path, routes_before: int) -> _Layer:
    try:
        content = toml.parse(files.read(path, limit=_MAX_FILE_BYTES).decode("utf-8-sig"))
    except FileError as error:
        raise SettingsError(str(error)) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: not UTF-8 text (byte {error.start}: {error.reason})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
    content = _anchored(content, path.parent.absolute())
    return _Layer(str(path), content, range(routes_before, routes_before + len(_routes(content))))


def _environment() -> dict[str, Any]:
    """Return the settings in the environment, in the form of a file's; raises `SettingsError`."""
    if not any(name.upper().startswith(ENVIRONMENT) for name in os.environ):
        return {}
    if wrong := unknown_variable(os.environ, ENVIRONMENT, Settings):  # pydantic-settings looks only at those it knows
        raise SettingsError(f"environment: {wrong}")
    # Imported only here: it imports asyncio, which costs memory and time at every start.
    from pydantic_settings import EnvSettingsSource

    try:
        # It uses only the model's fields, so `Settings` need not be a `BaseSettings`.
        content = EnvSettingsSource(Settings, env_prefix=ENVIRONMENT, env_nested_delimiter="__")()  # type: ignore[arg-type]
    except RecursionError:
        content = None
    except ValueError as error:  # a variable that should be JSON but is not
        raise SettingsError(f"environment: {error}") from None
    if content is None or toml.is_too_deep(content):
        raise SettingsError(f"environment: lists or objects nested more than {toml.MAX_DEPTH} deep")
    return content


def _routes(content: dict[str, Any]) -> list[Any]:
    routes = content.get("route")
    return routes if isinstance(routes, list) else []


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two files: `above` wins key by key, and its routes come after those below."""
    merged = _over(below, above)
    if "route" in below and "route" in above:
        both = below["route"], above["route"]
        # Keep a value that is not a list, so that validation reports it.
        wrong = [routes for routes in both if not isinstance(routes, list)]
        merged["route"] = wrong[0] if wrong else [*both[0], *both[1]]
    return merged


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge tables recursively; where both have a key, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both_tables else value
    return merged


def _with_node_id(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add the default node id: the host name, plus the file's name unless that is edge-agent.toml.

    So several agents on one machine, each with its own file, have different topics and client ids.
    """
    node = content.get("node", {})
    if path.name == DEFAULT_FILE.name or not isinstance(node, dict) or "id" in node:
        return content
    stem = one_word(path.stem)[:31]
    return {**content, "node": {**node, "id": f"{host_name()[:32]}-{stem}"}}


def _anchored(content: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Resolve relative paths in `content` against `directory`, that of their file."""
    for place, keys in _PATHS.items():
        table: Any = content
        for part in place:
            table = table.get(part) if isinstance(table, dict) else None
        _anchor(table, keys, directory)
    metrics = content.get("metrics")
    named = str(metrics.get("textfile")) if isinstance(metrics, dict) else ""
    # A name alone is not beside the configuration, and a directory is refused as it was written.
    if "/" in named and not named.endswith("/"):
        _anchor(metrics, ("textfile",), directory)
    update = content.get("update")
    if isinstance(update, dict) and isinstance(trusted := update.get("trusted_keys"), list):
        update["trusted_keys"] = [
            str(directory / key) if isinstance(key, str) and key.endswith(KEY_SUFFIX) else key for key in trusted
        ]
    for route in _routes(content):
        if isinstance(route, dict) and str(route.get("model", "")).endswith(".onnx"):
            _anchor(route, ("model",), directory)
    return content


def _anchor(table: Any, keys: tuple[str, ...], directory: Path) -> None:
    for key in keys:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(directory / table[key])


# -- which file is at fault


def _where(layers: Sequence[_Layer], place: Location) -> str:
    """Return which of `layers` is at fault for `place`: all that set part of a table, or the last that sets a value."""
    if place == ("route",) and (wrong := [layer for layer in layers if layer.has_wrong_routes]):
        return wrong[0].where
    depths = [_depth(layer, place) for layer in layers]
    deepest = max(depths, default=(0, False))[0]
    found = [layer for layer, (depth, _) in zip(layers, depths, strict=True) if depth == deepest and depth > 0]
    if found and not all(is_table for depth, is_table in depths if depth == deepest):
        found = found[-1:]
    return _named(found or [layer for layer in layers if layer.content])


def _depth(layer: _Layer, place: Location) -> tuple[int, bool]:
    """Return how far `place` exists in a layer's content, and whether a table (or the list of routes) is there."""
    value: Any = layer.content
    for depth, part in enumerate(place):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            number = part - layer.routes.start if place[0] == "route" and depth == 1 else part
            if not 0 <= number < len(value):
                return depth, True
            value = value[number]
        else:
            return depth, isinstance(value, dict)
    return len(place), isinstance(value, dict) or (place == ("route",) and isinstance(value, list))


def _of_routes(layers: Sequence[_Layer], message: str) -> str:
    """Return which of `layers` contain the routes that an error of `Settings.routes` begins with."""
    named = re.match(r"routes? (\d+)(?: and (\d+))?:(?:.* by route (\d+),)?", message)
    numbers = {int(number) - 1 for number in (named.groups() if named else ()) if number}
    found = [layer for layer in layers if numbers & set(layer.routes)]
    return _named(found or [layer for layer in layers if layer.content])


def _named(layers: Sequence[_Layer]) -> str:
    return " or ".join(layer.where for layer in layers) or "defaults"


def _counted(layers: Sequence[_Layer], error: ValidationError | SettingsError) -> str:
    """Return a note for an error about a numbered route when its number may differ from that in its own file."""
    about_routes = place_of(error)[:1] == ("route",) if isinstance(error, ValidationError) else True
    return " (routes count over all files)" if about_routes and sum(bool(one.routes) for one in layers) > 1 else ""
