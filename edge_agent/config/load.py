"""Loading: the only reader of the configuration's files and of the environment.

A configuration is `X.toml` and every `X.d/*.toml` beside it, in order of name; then, for every key,
`EDGE_AGENT_<SECTION>__<KEY>` in the environment. The later wins, key by key; the routes of all files are taken together.
With none of them, the defaults hold. Rules:

* Unknown keys are refused, with the nearest known one.
* Whatever stands in a file or in the environment, and whatever lies where a file should be, ends as `SettingsError`: one
  sentence with the file at fault. Sizes and depth are bounded before anything is made of them.
* A relative path is relative to the file that it stands in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from edge_agent.config import toml
from edge_agent.config.explain import Place, explain, place_of, unknown_variable
from edge_agent.config.settings import SECTIONS, Settings, host_name, one_word
from edge_agent.errors import FileError, SettingsError
from edge_agent.host import files

DEFAULT_FILE: Final = Path("/etc/edge-agent/edge-agent.toml")
ENVIRONMENT: Final = "EDGE_AGENT_"
_TOML: Final = ".toml"
#: Largest file, and most files beside it.
_MAX_FILE_BYTES: Final = 1 << 18
_MAX_FRAGMENTS: Final = 256
#: Settings that name files, by the table they stand in.
_PATHS: Final = {
    ("mqtt",): ("password_file", "socket"),
    ("mqtt", "tls"): ("ca", "certificate", "key"),
    ("models",): ("directory",),
}


class _Layer(NamedTuple):
    """What one place says; `routes` are those of its routes among all (counted from 0)."""

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
    """Read the settings from `path` (None: `DEFAULT_FILE` when it is there), what lies beside it, and the environment.

    The name of a file that is not called edge-agent.toml becomes part of the default node id. Raises `SettingsError`.
    """
    explicit, path = path is not None, path or DEFAULT_FILE
    layers, content = [], dict[str, Any]()
    for source in _sources(path, explicit=explicit):
        layer = _read(source, len(_routes(content)))
        layers.append(layer)
        content = _merged(content, layer.content)
    if above := _environment():
        if "route" in above:  # in place of all others
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
    """Return the files that `load` reads for `path`, in their order. Raises `SettingsError`."""
    return _sources(path or DEFAULT_FILE, explicit=path is not None)


def fragments(path: Path) -> Path | None:
    """Return the directory whose files are read together with that at `path`; None for one that is no .toml."""
    return path.with_suffix(".d") if path.suffix == _TOML else None


def _sources(path: Path, *, explicit: bool) -> list[Path]:
    beside = fragments(path)
    try:
        there = files.exists(path)
        more = [] if beside is None else files.listing(beside, _TOML)
    except FileError as error:
        raise SettingsError(str(error)) from error
    if len(more) > _MAX_FRAGMENTS:
        raise SettingsError(f"{beside}: {len(more)} files; at most {_MAX_FRAGMENTS} are read: join some of them")
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
    content = _anchored(content, path.parent)
    return _Layer(str(path), content, range(routes_before, routes_before + len(_routes(content))))


def _environment() -> dict[str, Any]:
    """Return what stands in the environment, as the file would have it; raises `SettingsError`."""
    if not any(name.upper().startswith(ENVIRONMENT) for name in os.environ):
        return {}
    if wrong := unknown_variable(os.environ, ENVIRONMENT, Settings):  # pydantic-settings looks only at those it knows
        raise SettingsError(f"environment: {wrong}")
    # Only here: it brings asyncio along, which costs memory and time at every start.
    from pydantic_settings import EnvSettingsSource

    try:
        # Of the model it looks at the fields only, so that need not be a `BaseSettings`.
        content = EnvSettingsSource(Settings, env_prefix=ENVIRONMENT, env_nested_delimiter="__")()  # type: ignore[arg-type]
    except RecursionError:
        content = None
    except ValueError as error:  # a variable that is not the JSON it has to be
        raise SettingsError(f"environment: {error}") from None
    if content is None or toml.is_too_deep(content):
        raise SettingsError(f"environment: lists or objects more than {toml.MAX_DEPTH} deep in one another")
    return content


def _routes(content: dict[str, Any]) -> list[Any]:
    routes = content.get("route")
    return routes if isinstance(routes, list) else []


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return what two files say together: key by key `above` wins, and its routes come after those below."""
    merged = _over(below, above)
    if "route" in below and "route" in above:
        both = below["route"], above["route"]
        # One that is no list is wrong, and has to stay to be told.
        wrong = [routes for routes in both if not isinstance(routes, list)]
        merged["route"] = wrong[0] if wrong else [*both[0], *both[1]]
    return merged


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return both, table by table; where they have the same key, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both_tables else value
    return merged


def _with_node_id(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add the default node id: the host name, and the name of the file where that is not edge-agent.toml.

    So that several agents on one machine, each with a file of its own, have topics and client ids of their own.
    """
    node = content.get("node", {})
    if path.name == DEFAULT_FILE.name or not isinstance(node, dict) or "id" in node:
        return content
    stem = one_word(path.stem)[:31]
    return {**content, "node": {**node, "id": f"{host_name()[:32]}-{stem}"}}


def _anchored(content: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Make the relative paths in `content` relative to the `directory` of the file that they stand in."""
    for place, keys in _PATHS.items():
        table: Any = content
        for part in place:
            table = table.get(part) if isinstance(table, dict) else None
        _anchor(table, keys, directory)
    for route in _routes(content):
        if isinstance(route, dict) and str(route.get("model", "")).endswith(".onnx"):
            _anchor(route, ("model",), directory)
    return content


def _anchor(table: Any, keys: tuple[str, ...], directory: Path) -> None:
    for key in keys:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(directory / table[key])


# -- whose fault it is


def _where(layers: Sequence[_Layer], place: Place) -> str:
    """Return which of `layers` says what is wrong at `place`: all that say something of a table, the last of a value."""
    if place == ("route",) and (wrong := [layer for layer in layers if layer.has_wrong_routes]):
        return wrong[0].where
    depths = [_depth(layer, place) for layer in layers]
    deepest = max(depths, default=(0, False))[0]
    found = [layer for layer, (depth, _) in zip(layers, depths, strict=True) if depth == deepest and depth > 0]
    if found and not all(is_table for depth, is_table in depths if depth == deepest):
        found = found[-1:]
    return _named(found or [layer for layer in layers if layer.content])


def _depth(layer: _Layer, place: Place) -> tuple[int, bool]:
    """Return how far a layer's content leads along `place`, and whether a table (or the list of routes) is there."""
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
    """Return which of `layers` have the routes that a message of `Settings.routes` begins with."""
    named = re.match(r"routes? (\d+)(?: and (\d+))?:(?:.* by route (\d+),)?", message)
    numbers = {int(number) - 1 for number in (named.groups() if named else ()) if number}
    found = [layer for layer in layers if numbers & set(layer.routes)]
    return _named(found or [layer for layer in layers if layer.content])


def _named(layers: Sequence[_Layer]) -> str:
    return " or ".join(layer.where for layer in layers) or "defaults"


def _counted(layers: Sequence[_Layer], error: ValidationError | SettingsError) -> str:
    """Return the end of a message about a route by number, where that may not be its number in its own file."""
    about_routes = place_of(error)[:1] == ("route",) if isinstance(error, ValidationError) else True
    return " (routes count over all files)" if about_routes and sum(bool(one.routes) for one in layers) > 1 else ""
