"""The models of the routes: file, card, self-test, and whether the routes fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edge_agent import assembly
from edge_agent.config.models import library
from edge_agent.config.settings import Settings
from edge_agent.doctor.findings import Finding, failed, note, ok
from edge_agent.doctor.reach import May, explain_model, may
from edge_agent.doctor.trust import check_trust
from edge_agent.errors import FileError, ModelError, SettingsError
from edge_agent.model.library import Library, Predictor
from edge_agent.routing.levels import lay_out
from edge_agent.routing.routes import FEATURE, Route

#: Topics of a gathering route that a finding names at most.
_PLACES: Final = 10


def check_models(
    loaded: Settings, routes: Sequence[Route], models: dict[str, Predictor], *, as_service: bool = False
) -> Iterator[Finding]:
    """Load every model that a route names, as `run` does, and put the usable ones into `models`."""
    trust = list(check_trust(loaded, as_service=as_service, may=may))
    yield from trust
    if any(finding.verdict == "fail" for finding in trust) or (there := _library(loaded)) is None:
        return
    for name in dict.fromkeys(route.model for route in routes):
        closed = explain_closed(name, loaded) if as_service else None
        if closed is not None:
            yield closed
            continue
        try:
            opened = there.open(name)
        except ModelError as error:
            yield failed("model", error)
            continue
        model = models[name] = opened.predictor
        card = model.card
        yield ok("model", f"{card.name} {card.version}, {card.task}, sha256 {model.sha256[:12]}…, {model.where}")
        if opened.signed_by:
            yield ok("signature", f"{card.name}: signed by {', '.join(f'key {name}' for name in opened.signed_by)}")
        if model.sealed:
            yield ok("digest", f"{card.name}: the file matches the sha256 that it carries")
        else:
            yield note(
                "digest",
                f"{card.name}: the file carries no sha256, so damage that leaves it readable goes unnoticed",
                "write it again with edge-convert",
            )
        yield ok(
            "self-test",
            f"{card.name}: {len(card.self_test.rows)} rows as {card.training.judge} gave them, "
            f"largest difference {model.self_test_difference:.1e} (tolerance {card.self_test.tolerance:g})",
        )
    try:
        assembly.check_routes(routes, models)
    except SettingsError as error:
        yield failed("fields", error)
        return
    for route in routes:
        if route.gathers and route.model in models:
            yield ok("gathering", _inputs(route, models[route.model].card.feature_names))


def _library(loaded: Settings) -> Library | None:
    """Return the models; None where who has to have signed them is for the service alone to see, as `check_trust` says."""
    try:
        return library(loaded)
    except FileError:
        return None


def explain_closed(name: str, loaded: Settings, *, may: May = may) -> Finding | None:
    """Return why the service's user can't read a model's file; None when it can. Everybody can read the bundled ones."""
    found = (explain_model(name, path, may=may) for path in library(loaded).places(name))
    return next((closed for closed in found if closed is not None), None)


def _inputs(route: Route, features: Sequence[str]) -> str:
    """List the topics on which a gathering route expects the features."""
    places: list[str] = []
    for source in route.inputs:
        same = {name: f"{{{name}}}" for name in source.subscribe.captures}
        if FEATURE in same:
            places += [
                f"{', '.join(name for name, _ in on_it)} on {source.subscribe.render({**same, FEATURE: level})}"
                for level, on_it in lay_out(features, source.fields).items()
            ]
        else:
            there = [name for name in features if name in dict(source.fields)] if source.only_fields else features
            places.append(f"{', '.join(there)} on {source.subscribe.text}")
    more = f"; and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return "; ".join(places[:_PLACES]) + more
