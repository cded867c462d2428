"""`edge-agent model …`: which models there are, and which version of each is in use.

Everything that changes what is served opens and tests it first, as the agent will (`edge_agent.model.library`), and with the routes
that name it. A running agent notices a change by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from edge_agent import assembly
from edge_agent.cli.kept import Described, Listed, beside, names
from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.models import library, store
from edge_agent.config.settings import Settings
from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.errors import FileError, InputError, ModelError, StoreError
from edge_agent.host import files
from edge_agent.model.library import Predictor
from edge_agent.model.state import Refused, State
from edge_agent.model.store import Store, Version
from edge_agent.model.trust import Kept
from edge_agent.model.watching import go_back
from edge_agent.wording import count, plain, plain_json

_SUFFIX: Final = ".onnx"
#: Seconds to wait for another command, or an update, that changes the store.
_PATIENCE: Final = 30.0
#: What a node says of the version that a manifest names, where a person has chosen another one.
_PUT_ASIDE: Final = "another version was chosen on the device, with edge-agent model"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _config(command: _Command) -> _Command:
    option = click.option(
        "--config",
        # `load` reports a missing or unreadable file.
        type=click.Path(path_type=Path, readable=False),
        help=f"Configuration file of the agent.  [default: {DEFAULT_FILE}, when it is there]",
    )
    return option(command)


@click.group(name="model")
def command() -> None:
    """List, show, install and take back models.

    Versions are kept in the directory of the models, one of each model in use. What is in use is replaced only by a file that was
    opened and tested. A running agent takes a change over by itself, without losing a message; one that is started later begins with it.

    Exit status: 0 done, 2 usage or configuration error, 3 the model can't be used, or there is no such version.
    """


@command.command(name="list")
@_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_(config: Path | None, *, as_json: bool) -> None:
    """List the models: what is served and from where, and the versions that are kept."""
    settings = load(config)
    found = [Listed.of(settings, name) for name in names(settings)]
    if as_json:
        _print_json({"models": [model.as_json() for model in found]})
    else:
        _print(line for model in found for line in model.lines())


@command.command(name="show")
@click.argument("model", required=False)
@click.argument("version", required=False)
@_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(model: str | None, version: str | None, config: Path | None, *, as_json: bool) -> None:
    """Show what a model takes and answers, and where it comes from.

    MODEL is a model's name or a file (*.onnx); without it, the one that the routes name. VERSION is one that is kept; without it, the
    one that is served.
    """
    settings = load(config)
    named = model or _only([route.model for route in settings.route], "show")
    described = Described.of(settings, named if version is None else str(store(settings).find(named, version).path))
    if as_json:
        _print_json(described.as_json())
    else:
        _print(described.lines())


@command.command(name="install")
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@_config
def install(file: Path, config: Path | None) -> None:
    """Install a model file (*.onnx), and put it into use.

    The file is opened and tested in a separate process first, and with the routes that name its model; if it fails, nothing is changed.
    FILE.minisig, if there is one, is kept with it. What was served before is kept as well, for `edge-agent model rollback`.
    """
    if file.suffix != _SUFFIX:
        raise InputError(f"{file}: a model file ends in {_SUFFIX}; name the file that edge-convert wrote")
    settings = load(config)
    predictor = _tested(settings, file)
    name, version = predictor.card.name, predictor.card.version
    content = files.read(file, limit=MAX_MODEL_BYTES)
    if hashlib.sha256(content).hexdigest() != predictor.sha256:
        raise ModelError(f"{file}: was changed while it was being tested; try again")
    kept = store(settings, _PATIENCE)
    _adopt(settings, kept, name)
    added = kept.add(name, version, content, beside(file))
    with _deciding(settings, kept, name, added.sha256):
        _switch(settings, kept, name, lambda: kept.use(name, added.sha256))
    kept.prune(name)


@command.command(name="use")
@click.argument("words", nargs=-1, required=True, metavar="[MODEL] VERSION")
@_config
def use(words: tuple[str, ...], config: Path | None) -> None:
    """Put another version into use, of those that `edge-agent model list` shows.

    VERSION may also be the beginning of its sha256. MODEL can be left out when versions of only one model are kept.
    """
    settings = load(config)
    kept = store(settings, _PATIENCE)
    if len(words) > 2:
        raise click.UsageError("too many words: MODEL VERSION, or VERSION")
    name, which = words if len(words) == 2 else (_only(kept.names(), "use"), words[0])
    chosen = kept.find(name, which)
    _tested(settings, chosen.path)
    with _deciding(settings, kept, name, chosen.sha256):
        _switch(settings, kept, name, lambda: kept.use(name, chosen.sha256))


@command.command(name="rollback")
@click.argument("model", required=False)
@_config
def rollback(model: str | None, config: Path | None) -> None:
    """Go back to the version that was in use before.

    MODEL can be left out when versions of only one model are kept.
    """
    settings = load(config)
    kept = store(settings, _PATIENCE)
    name = model or _only(kept.names(), "rollback")
    with contextlib.ExitStack() as stack:
        if (before := kept.before(name)) is not None:
            _tested(settings, before.path)
            stack.enter_context(_deciding(settings, kept, name, before.sha256))
        _switch(settings, kept, name, lambda: kept.rollback(name))


@command.command(name="remove")
@click.argument("model")
@click.argument("version", required=False)
@_config
@click.option("--all", "everything", is_flag=True, help="Remove all versions of MODEL, also the one in use.")
def remove(model: str, version: str | None, config: Path | None, *, everything: bool) -> None:
    """Remove a version that is not in use, or all of a model.

    After --all, a file by hand or the bundled model of this name is served; without one, nothing is removed while a route names it.
    """
    if (version is None) != everything:
        raise click.UsageError("say what to remove: MODEL VERSION, or MODEL --all")
    settings = load(config)
    kept = store(settings, _PATIENCE)
    if version is not None:
        kept.remove(model, version)
        click.echo(plain(f"removed {model} {version}"))
        return
    there, instead = count(len(kept.versions(model)), "version"), _without_store(settings, model)
    with _deciding(settings, kept, model, None):
        kept.remove(model)
    click.echo(plain(f"removed {there} of {model}" + (f"; from now on it is {instead}" if instead else "")))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(plain(line))


def _print_json(what: dict[str, Any]) -> None:
    click.echo(plain_json(json.dumps(what, ensure_ascii=False)))


def _only(models: list[str], verb: str) -> str:
    """Return the model that is meant where none is named."""
    found = list(dict.fromkeys(models))
    if not found:
        raise StoreError("no model is in the store; install one with edge-agent model install")
    if len(found) > 1:
        raise InputError(
            f"there are several models: {', '.join(found)}; name one: edge-agent model {verb} {found[0]} …"
        )
    return found[0]


def _tested(settings: Settings, path: Path) -> Predictor:
    """Open and test a file as the agent will, and with the routes that name its model. Raises `ModelError` or `SettingsError`."""
    predictor = library(settings).load(str(path))
    assembly.check_routes(settings.routes(), {predictor.card.name: predictor})
    return predictor


def _adopt(settings: Settings, kept: Store, name: str) -> None:
    """Keep what is served now from another place as a version, so that there is a way back to it."""
    if kept.versions(name):
        return
    try:
        path = library(settings).locate(name)
        predictor = library(settings).load(str(path))
    except ModelError:
        return  # nothing is served, or nothing that could be gone back to
    kept.use(name, kept.add(name, predictor.card.version, path, beside(path)).sha256)


@contextlib.contextmanager
def _deciding(settings: Settings, kept: Store, name: str, chosen: str | None) -> Iterator[None]:
    """Remember that a person chooses another version than the one in use, or on trial (None: none of the store's), where models come over
    MQTT: the manifest that is in force does not undo that, a newer one does. It is to be around the change, which a running agent notices.

    All models of a release change together, so the others on trial with it go back as well.
    """
    try:
        now = kept.current(name)
    except (FileError, StoreError):
        yield  # what lies in its place is replaced
        return
    in_use = None if now is None else now.sha256
    if in_use == chosen:
        yield
        return
    on_trial: dict[str, str] = {}

    def noted(state: State) -> State:
        watched = None if state.watched is None else state.watched.files
        if watched is not None and watched.get(name, chosen) != chosen:
            on_trial.update(watched)
        serial = state.channels.get(settings.update.channel, Kept()).accepted.serial
        if on_trial and state.watched is not None:
            serial = max(serial, state.watched.serial)
        if not serial:
            return state
        aside = {sha256 for sha256 in (in_use, *on_trial.values()) if sha256 and sha256 != chosen}
        state = state.refuse(aside, Refused(serial=serial, reason=_PUT_ASIDE, rolled_back=True))
        refused = {sha256: why for sha256, why in state.refused.items() if sha256 != chosen}
        state = state.model_copy(update={"refused": refused})
        return state if on_trial else state.unwatch([name])  # else once all of it has gone back

    kept.change(noted)
    yield
    for other, sha256 in on_trial.items():
        if other != name and go_back(kept, other, sha256):
            click.echo(plain(f"{other} is what it was before, too: it came with that release"))
    if on_trial:
        kept.change(lambda state: state.unwatch(on_trial))


def _switch(settings: Settings, kept: Store, name: str, change: Callable[[], Version]) -> None:
    """Put another version into use, and say so."""
    try:
        before = kept.locate(name)
    except (FileError, StoreError):
        before = None  # what lies in its place is replaced
    now = change()
    if before == now.path:
        click.echo(plain(f"{name} {now.version} is in use already"))
        return
    back = kept.before(name)
    said = f"{name} {now.version} is in use" + (f", before it {back.version}" if back else "")
    if any(route.model == name for route in settings.route):
        click.echo(plain(f"{said}; a running agent takes it over by itself"))
    else:
        click.echo(plain(f'{said}; no route names it: write model = "{name}" in one'))
    if (by_hand := library(settings).passed_over(name)) is not None:
        click.echo(plain(f"{by_hand} is not used any more; remove it: sudo rm {shlex.quote(str(by_hand))}"))


def _without_store(settings: Settings, name: str) -> str | None:
    """Return what is served without the versions of the store; raises `StoreError` where a route would be without a model."""
    path = library(settings).elsewhere(name)
    if path is not None:
        predictor = _tested(settings, path)
        return f"{predictor.card.version}, {library(settings).origin(path)}: {path}"
    if any(route.model == name for route in settings.route):
        raise StoreError(f"model {name}: a route names it, and there is no other file of it; remove that route first")
    return None
