"""Loading: the only reader of the configuration's file and of the environment.

One TOML file, and for every key `EDGE_AGENT_<SECTION>__<KEY>` in the environment, which wins. With neither, the
defaults hold. Unknown keys are refused, with the nearest known one.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge_agent.complaints import explain, not_toml, unknown_variable
from edge_agent.errors import SettingsError
from edge_agent.settings import SECTIONS, Settings, host_name, one_word

DEFAULT_FILE: Final = Path("/etc/edge-agent/edge-agent.toml")
ENVIRONMENT: Final = "EDGE_AGENT_"
#: Settings that name files, by the table they stand in.
_PATHS: Final = {
    ("mqtt",): ("password_file", "socket"),
    ("mqtt", "tls"): ("ca", "certificate", "key"),
    ("models",): ("directory",),
}


def load(path: Path | None = None) -> Settings:
    """Read the settings from `path` (None: `DEFAULT_FILE` when it is there) and the environment.

    Relative paths of models and secrets in the file are relative to the file. The name of a file that is not called
    edge-agent.toml becomes part of the default node id. Raises `SettingsError`.
    """
    explicit = path is not None
    path = path or DEFAULT_FILE
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if explicit:
            raise SettingsError(f"{path}: no such file; leave --config out to run with the defaults") from None
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {not_toml(error)}") from None
    above = _environment()
    where = " or ".join([str(path)] * bool(content) + ["environment"] * bool(above)) or "defaults"
    try:
        settings = Settings(**_merged(_with_node_id(_anchored(content, path.parent), path), above))
        settings.routes()
    except ValidationError as error:
        raise SettingsError(explain(error, where, Settings, SECTIONS)) from None
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    return settings


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
        return EnvSettingsSource(Settings, env_prefix=ENVIRONMENT, env_nested_delimiter="__")()  # type: ignore[arg-type]
    except ValueError as error:  # a variable that is not the JSON it has to be
        raise SettingsError(f"environment: {error}") from None


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return both, table by table; where they have the same key, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_tables else value
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
    routes = content.get("route")
    for route in routes if isinstance(routes, list) else ():
        if isinstance(route, dict) and str(route.get("model", "")).endswith(".onnx"):
            _anchor(route, ("model",), directory)
    return content


def _anchor(table: Any, keys: tuple[str, ...], directory: Path) -> None:
    for key in keys:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(directory / table[key])
