"""The map of the house, and the walls between its rooms.

    cli, demo, doctor -> assembly -> agent -> adapters -> core -> (topics, messages, card) -> errors

`MAP` places every module of `edge_agent`: what it may import, beside itself. `VENDORS` names who may import a library that we keep
behind an interface. A new module fails here until it has its place.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_agent

PACKAGE = Path(edge_agent.__file__).parent
#: What lies beside the package: the clone, or, when the wheel is tested, the installed packages.
SIDE = PACKAGE.parent

BASE = frozenset({"errors"})
WIRE = BASE | {"topics", "messages", "card", "seal"}
CORE = WIRE | {
    "cbor",
    "checks",
    "codecs",
    "delivery",
    "engine",
    "formats",
    "gathering",
    "health",
    "intake",
    "ledger",
    "levels",
    "packets",
    "pipeline",
    "poison",
    "properties",
    "responses",
    "routes",
    "senml",
    "sensors",
    "weights",
    "writing",
}
#: What the loop itself may touch of the outside: signals and memory, and the service manager.
PROCESS = frozenset({"process", "systemd"})
ADAPTERS = PROCESS | {"predictor", "library", "broker", "files", "load", "precautions", "settings", "logs", "device"}
LOOP = CORE | PROCESS | {"agent", "announcements", "answering", "caution", "plan", "reports", "requests"}

#: module or sub-package -> the modules that it may import, beside itself. Everything may import the package itself (`__version__`).
MAP: dict[str, frozenset[str]] = {
    # Pure: no files, no sockets, no clock, no vendor but numpy and pydantic.
    "errors": frozenset(),
    "topics": BASE,
    "messages": BASE | {"topics", "card"},
    "card": BASE,
    "seal": BASE,
    "senml": WIRE,
    "weights": frozenset(),
    "cbor": frozenset({"weights"}),
    "formats": WIRE | {"cbor", "senml", "weights"},
    "checks": WIRE,
    "codecs": WIRE | {"checks", "formats", "weights"},
    "health": WIRE,
    "intake": WIRE,
    "ledger": BASE,
    "delivery": WIRE | {"health", "ledger", "packets"},
    "properties": frozenset(),
    "packets": WIRE | {"properties"},
    "poison": WIRE | {"health", "packets", "wording"},
    "routes": WIRE | {"codecs", "formats"},
    "responses": WIRE | {"packets", "routes"},
    "levels": WIRE | {"codecs", "formats"},
    "sensors": BASE,
    "gathering": WIRE | {"codecs", "formats", "levels", "routes", "sensors"},
    "writing": WIRE | {"codecs", "formats", "health"},
    "engine": WIRE | {"writing", "codecs", "formats", "health"},
    "pipeline": WIRE
    | {"codecs", "engine", "formats", "gathering", "health", "levels", "responses", "routes", "sensors", "writing"},
    # Adapters: the outside world, one file each. None knows another one.
    "predictor": CORE | {"files"},
    "apart": BASE | {"wording"},
    "library": CORE | {"apart", "files", "predictor"},
    "broker": CORE | {"_endings", "_paho", "_patience", "_stream", "_subscriptions", "_tls", "_transport"},
    "_paho": WIRE | {"packets", "_transport", "_stream", "_plain"},
    "_stream": WIRE | {"packets", "_plain", "_transport"},
    "_plain": WIRE | {"packets", "_transport"},
    "_subscriptions": WIRE | {"_paho"},
    "_endings": BASE | {"_transport"},
    "_patience": frozenset(),
    "_tls": BASE | {"files"},
    "_transport": BASE | {"_tls", "_websocket"},
    "_websocket": frozenset(),
    "files": BASE,
    "values": CORE,
    "settings": CORE | {"files", "values"},
    "toml": frozenset(),
    "load": CORE | {"complaints", "files", "settings", "toml"},
    "precautions": BASE | {"files", "settings"},
    "complaints": frozenset(),
    "process": BASE,
    "systemd": BASE | {"wording"},
    "logs": BASE | {"wording"},
    "device": BASE,
    # The loop, the shipped fakes, the composition root, and the commands.
    "reports": CORE | {"plan", "process"},
    "announcements": WIRE,
    "requests": WIRE,
    "plan": CORE,
    "caution": CORE | {"plan"},
    "answering": CORE | {"caution", "plan"},
    "agent": CORE | PROCESS | {"announcements", "answering", "caution", "plan", "reports", "requests"},
    "testing": LOOP,
    "assembly": LOOP | ADAPTERS,
    "reloading": LOOP | ADAPTERS | {"assembly"},
    "demo": LOOP | ADAPTERS | {"assembly", "wording"},
    # Beside a running agent: what asks it, and what examines it and its machine.
    "wording": BASE,
    "visit": LOOP | ADAPTERS | {"assembly"},
    "doctor": LOOP | ADAPTERS | {"apart", "assembly", "visit", "wording"},
    "cli": LOOP | ADAPTERS | {"assembly", "demo", "doctor", "reloading", "visit", "wording"},
    "__main__": frozenset({"cli"}),
}

#: library -> the one module that imports it; those of `paho` are the private parts of `broker`.
VENDORS = {
    "paho": frozenset({"_paho", "_stream", "_plain"}),
    "onnxruntime": frozenset({"predictor"}),
    "cbor2": frozenset({"cbor"}),
    "pydantic_settings": frozenset({"load"}),
    "click": frozenset({"cli", "demo"}),
    "rich": frozenset({"demo"}),
    "amqtt": frozenset({"demo"}),
}
#: What the other packages may import from edge_agent: the pure parts.
PUBLIC_TO_OTHERS = frozenset({"errors", "topics", "messages", "card", "seal"})
OTHERS = frozenset({"convert", "deploy"})

#: What the core has no business with.
IMPURE = frozenset(
    {"asyncio", "io", "os", "pathlib", "random", "select", "signal", "socket", "ssl", "subprocess", "threading", "time"}
)

MAX_LINES = 400


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Each module of a package: the room it lies in (`cli` for all of cli/) and its file."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).with_suffix("")
        if relative.parts != ("__init__",):
            yield relative.parts[0], path


def imports(path: Path, side: Path = SIDE) -> Iterator[tuple[str, int]]:
    """Every dotted name that a file imports, at any depth and also under TYPE_CHECKING, with its line."""
    inside = path.relative_to(side).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            # `from edge_agent import card` imports a module, `from edge_agent.card import Card` a name: both begin so.
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def room_of(name: str) -> str | None:
    """The room of edge_agent that an imported name leads to; None where it leads elsewhere."""
    parts = name.split(".")
    if parts[0] != "edge_agent" or len(parts) < 2:
        return None
    is_module = (PACKAGE / f"{parts[1]}.py").is_file() or (PACKAGE / parts[1]).is_dir()
    return parts[1] if is_module else None


def breaches(path: Path, room: str) -> Iterator[str]:
    """What one file of edge_agent imports against the map."""
    for name, line in imports(path):
        where = f"{path.relative_to(SIDE)}:{line}"
        top = name.partition(".")[0]
        if top in OTHERS:
            yield f"{where}: the device never imports {top}"
        if room not in VENDORS.get(top, {room}):
            yield f"{where}: {top} is imported in {' or '.join(sorted(VENDORS[top]))} only"
        if room in CORE and top in IMPURE:
            yield f"{where}: {room} is pure and may not import {top}"
        target = room_of(name)
        if target is None or target == room or target in MAP.get(room, ()):
            continue
        yield f"{where}: {room} may not import {target}"


def test_every_module_has_its_place() -> None:
    unplaced = {room for room, _ in modules(PACKAGE)} - MAP.keys()
    assert not unplaced, f"place these in MAP: {sorted(unplaced)}"


@pytest.mark.parametrize(
    ("room", "path"), [pytest.param(room, path, id=str(path.relative_to(PACKAGE))) for room, path in modules(PACKAGE)]
)
def test_imports_point_inward(room: str, path: Path) -> None:
    assert list(breaches(path, room)) == []


@pytest.mark.parametrize("other", sorted(OTHERS))
def test_others_import_the_pure_parts_only(other: str) -> None:
    wrong = [
        f"{path.relative_to(SIDE)}:{line}: {other} may not import edge_agent.{room_of(name)}"
        for _, path in modules(SIDE / other)
        for name, line in imports(path)
        if room_of(name) not in {None, *PUBLIC_TO_OTHERS}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["edge_agent", "benchmarks", *sorted(OTHERS)])
def test_no_module_grows_past_its_size(package: str) -> None:
    """Past 400 lines, look for the second thing inside."""
    lengths = {str(path.relative_to(SIDE)): len(path.read_text().splitlines()) for _, path in modules(SIDE / package)}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_only_known_libraries_are_imported() -> None:
    """A base install is all that edge_agent may need; the command line may use the extra `demo` as well."""
    # pydantic asks for the last two itself, and for exactly the pydantic_core that goes with it.
    base = {"edge_agent", "numpy", "pydantic", "pydantic_core", "typing_extensions", *VENDORS} | sys.stdlib_module_names
    extra = {
        f"{path.relative_to(SIDE)}:{line}: {name}"
        for _, path in modules(PACKAGE)
        for name, line in imports(path)
        if name.partition(".")[0] not in base
    }
    assert extra == set()


def test_the_map_has_no_circle() -> None:
    done: set[str] = set()
    while left := MAP.keys() - done:
        ready = {room for room in left if MAP[room] <= done}
        assert ready, f"these import one another: {sorted(left)}"
        done |= ready


def test_a_breach_is_seen(tmp_path: Path) -> None:
    """The test of the test: each wall, once broken, is reported."""
    source = tmp_path / "edge_agent" / "card.py"
    source.parent.mkdir()
    source.write_text(
        "import convert.train\nfrom edge_agent import __version__, errors\nfrom . import errors as again\n"
    )
    found = {name for name, _ in imports(source, tmp_path)}
    assert found == {"convert.train", "edge_agent.__version__", "edge_agent.errors"}
    assert room_of("edge_agent.errors.CardError") == "errors"
    assert room_of("edge_agent.__version__") is None
