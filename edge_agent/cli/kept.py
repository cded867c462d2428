"""What `edge-agent model list` and `show` tell of models: what is served, what is kept, what the card says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_agent.cli import card as cards
from edge_agent.config.models import library, signers, store
from edge_agent.config.settings import Settings
from edge_agent.contract.manifest import MAX_MODEL_BYTES, instant
from edge_agent.contract.minisign import shown
from edge_agent.errors import FileError, ModelError, TrustError
from edge_agent.host import files
from edge_agent.model.library import Predictor
from edge_agent.model.store import Version
from edge_agent.model.trust import MAX_EVIDENCE_BYTES, claimed, evidence_of, verify_file
from edge_agent.wording import count

_SUFFIX: Final = ".onnx"


def names(settings: Settings) -> list[str]:
    """Return the models that the routes name, then those that are only kept."""
    return list(dict.fromkeys([*(route.model for route in settings.route), *store(settings).names()]))


def beside(path: Path) -> bytes | None:
    """Return the signature beside a model file, None when there is none. Raises `FileError`."""
    signature = evidence_of(path)
    return files.read(signature, limit=MAX_EVIDENCE_BYTES) if files.exists(signature) else None


class Listed(NamedTuple):
    """One model: which version is served and from where, or why none is; the versions kept; the routes that name it."""

    name: str
    version: str | None
    path: Path | None
    origin: str | None
    trouble: str | None
    versions: list[Version]
    before: Version | None
    routes: list[str]

    @classmethod
    def of(cls, settings: Settings, name: str) -> Listed:
        """Look at a model."""
        models, kept = library(settings), store(settings)
        version = path = origin = trouble = before = None
        versions: list[Version] = []
        try:
            if not name.endswith(_SUFFIX):
                versions, before = kept.versions(name), kept.before(name)
            path = models.locate(name)
            origin = models.origin(path)
            version = next((one.version for one in versions if one.path == path), None)
            version = version or models.load(str(path)).card.version
        except (ModelError, FileError) as error:
            trouble = str(error)
        routes = [
            source.subscribe.text for route in settings.routes() if route.model == name for source in route.inputs
        ]
        return cls(name, version, path, origin, trouble, versions, before, routes)

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        routed = f"for {', '.join(self.routes)}" if self.routes else "which no route names"
        if self.trouble is not None:
            yield f"{self.name}: can't be served: {self.trouble}"
        else:
            yield f"{self.name} {self.version}, {self.origin}, {routed}: {self.path}"
        rows = [
            ["", one.version, one.sha256[:8], instant(one.modified), size(one.size), self._said(one)]
            for one in self.versions
        ]
        if rows:
            yield from cards.table(rows, ruled=False)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "name": self.name,
            "version": self.version,
            "from": self.origin,
            "path": None if self.path is None else str(self.path),
            "error": self.trouble,
            "routes": self.routes,
            "versions": [
                {
                    "version": one.version,
                    "sha256": one.sha256,
                    "path": str(one.path),
                    "size": one.size,
                    "added": instant(one.modified),
                    "in_use": one.path == self.path,
                    "before": one == self.before,
                    "damaged": one.damaged,
                }
                for one in self.versions
            ],
        }

    def _said(self, one: Version) -> str:
        said = {"in use": one.path == self.path, "in use before": one == self.before, "damaged": one.damaged}
        return ", ".join(words for words, holds in said.items() if holds)


class Described(NamedTuple):
    """A model with its card, where it comes from, and who signed it."""

    predictor: Predictor
    path: Path
    size: int
    origin: str
    signed: list[dict[str, str]]
    verdict: str | None

    @classmethod
    def of(cls, settings: Settings, name: str) -> Described:
        """Open a model by its name or file. Raises `ModelError`."""
        models = library(settings)
        path = models.locate(name)
        predictor, signature = models.load(str(path)), beside(path)
        signed, verdict = _signatures(settings, path, signature)
        return cls(predictor, path, files.look(path).st_size, models.origin(path), signed, verdict)

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        card = self.predictor.card
        yield f"{card.name} {card.version}" + f": {card.description}" * bool(card.description)
        yield ""
        yield from cards.paragraph("file", f"{self.path} ({size(self.size)}), {self.origin}")
        sealed = "which the file carries itself" if self.predictor.sealed else "which the file does not carry itself"
        yield from cards.paragraph("sha256", f"{self.predictor.sha256}, {sealed}")
        # Those of edge-convert have tabs, as minisign's.
        comments = [" ".join(one["comment"].split()) for one in self.signed]
        signers = "; ".join(
            f"key {one['key']}" + f" ({comment})" * bool(comment)
            for one, comment in zip(self.signed, comments, strict=True)
        )
        said = f"by {signers}: {self.verdict}" if signers else self.verdict or "no signature beside it"
        yield from cards.paragraph("signed", said)
        test = card.self_test
        yield from cards.paragraph(
            "self-test",
            f"passed on {count(len(test.rows), 'row')} here; largest difference {self.predictor.self_test_difference:.1e} "
            f"(tolerance {test.tolerance:g})",
        )
        yield from cards.lines(card)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "path": str(self.path),
            "from": self.origin,
            "size": self.size,
            "sha256": self.predictor.sha256,
            "sealed": self.predictor.sealed,
            "signed": self.signed,
            "signature": self.verdict,
            "self_test_difference": self.predictor.self_test_difference,
            "card": json.loads(self.predictor.card.to_json()),
        }


def size(number: int) -> str:
    """Return the size of a file for people."""
    return f"{number / 1024:.0f} KiB" if number < 1 << 20 else f"{number / (1 << 20):.1f} MiB"


def _signatures(settings: Settings, path: Path, text: bytes | None) -> tuple[list[dict[str, str]], str | None]:
    """Return the keys that signed a file, and in words what that is worth here; None where there is no signature."""
    if text is None:
        return [], None
    try:
        signed = [{"key": shown(one.key_id), "comment": one.trusted_comment} for one in claimed(text)]
    except TrustError as error:
        return [], str(error)
    if not (trusted := signers(settings)).keys:
        return signed, "not checked, as no key is trusted here (update.trusted_keys)"
    try:
        verify_file(files.read(path, limit=MAX_MODEL_BYTES), text, trusted)
    except TrustError as error:
        return signed, str(error)
    return signed, "trusted"
