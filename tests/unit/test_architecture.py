"""The order of the house: arrows point down only.

`FLOORS` is the order of the rooms of `edge_agent`, which are its folders and the modules beside them. `VENDORS` names who may
import a library that we keep behind an interface. A new room fails here until it has its floor.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_agent

PACKAGE = Path(edge_agent.__file__).parent
#: What lies beside the package: the clone, or, when the wheel is tested, the installed packages.
SIDE = PACKAGE.parent

#: The house from the ground up. A room imports from the floors below its own, never from a neighbour's.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "tally", "wording"}),
    frozenset({"host"}),
    frozenset({"contract"}),
    frozenset({"payload", "link", "model"}),
    frozenset({"routing"}),
    frozenset({"config", "serving"}),
    frozenset({"docs", "page"}),
    frozenset({"assembly", "testing", "demo"}),
    frozenset({"client"}),
    frozenset({"doctor", "watching"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}

#: library -> who alone imports it: a room, or a module of one.
VENDORS = {
    "paho": frozenset({"link/paho_client", "link/fast_lane", "link/slow_lane"}),
    "onnxruntime": frozenset({"model/onnx"}),
    "cryptography": frozenset({"model/trust"}),
    "cbor2": frozenset({"payload/cbor"}),
    "google": frozenset({"payload/sparkplug"}),
    "pydantic_settings": frozenset({"config/load"}),
    "click": frozenset({"cli", "demo"}),
    "rich": frozenset({"demo", "watching/table"}),
    "amqtt": frozenset({"demo"}),
}
#: module -> who alone imports it: what stands behind a door is nobody else's business.
DOORS = {"model/onnx": frozenset({"model/library", "model/opening"})}
#: What the other packages may import from edge_agent.
PUBLIC_TO_OTHERS = frozenset({"errors", "wording", "contract"})
OTHERS = frozenset({"edge_convert", "edge_deploy", "deploy"})
#: The same for them: library -> the one module that imports it.
VENDORS_OF_OTHERS = {"edge_deploy": {"paho": "broker"}}


#: Rooms, and modules of rooms, without files, sockets, clock or threads; and what they so have no business with.
PURE = frozenset(
    {
        "errors",
        "tally",
        "wording",
        "contract",
        "payload",
        "routing",
        "docs",
        "serving/pipeline",
        "serving/engine",
        "serving/beside",
        "serving/agreement",
        "serving/evidence",
        "serving/writing",
    }
    | {"serving/intake", "link/packets", "link/properties", "link/ledger", "link/delivery", "link/poison"}
    | {"link/session", "link/granted", "link/terms", "link/subscriptions", "link/patience", "link/endings"}
)
IMPURE = frozenset(
    {"asyncio", "io", "os", "pathlib", "random", "select", "signal", "socket", "ssl", "subprocess", "threading", "time"}
)

#: What an agent without a channel, discovery and explanations need not load: it costs start time and memory.
ON_DEMAND = frozenset(
    {
        f"serving.{name}"
        for name in ("updating", "released", "workshop", "course", "checking", "proving", "fetching", "phases")
    }
    | {
        f"serving.{name}"
        for name in ("contest", "beside", "evidence", "agreement", "discovery", "home_assistant", "drifting")
    }
)

MAX_LINES = 400


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Each module of a package: the room it lies in (`cli` for all of cli/) and its file."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).with_suffix("")
        if relative.parts != ("__init__",):
            yield relative.parts[0], path


def folder_of(package: str) -> Path:
    """Where a package lies: in the clone edge_convert is in convert/ and edge_deploy in deploy/, where the wheel is installed
    beside edge_agent.

    The wheel's suite has no `deploy` and no `benchmarks`: a folder that is not there has no modules.
    """
    inside = (SIDE / "convert" / package, SIDE / "deploy" / package)
    return next((folder for folder in inside if folder.is_dir()), SIDE / package)


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
            # `from edge_agent import card` imports a module, `from edge_agent.contract.card import Card` a name: both begin so.
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
    """What one file of edge_agent imports against the order."""
    module = path.relative_to(PACKAGE).with_suffix("").as_posix()
    for name, line in imports(path):
        where = f"{path.relative_to(SIDE)}:{line}"
        top = name.partition(".")[0]
        if top in OTHERS:
            yield f"{where}: the device never imports {top}"
        if not {room, module} & VENDORS.get(top, {room}):
            yield f"{where}: {top} is imported in {' or '.join(sorted(VENDORS[top]))} only"
        if top in IMPURE and {room, module} & PURE:
            yield f"{where}: {module} is pure and may not import {top}"
        for hidden, doors in DOORS.items():
            if f"{name}.".startswith(f"edge_agent.{hidden.replace('/', '.')}.") and module not in doors:
                yield f"{where}: {hidden} is reached through {' or '.join(sorted(doors))} only"
        target = room_of(name)
        if target is not None and target != room and LEVEL[target] >= LEVEL[room]:
            yield f"{where}: {room} is not above {target}, and may not import it"


def arrows() -> dict[str, set[str]]:
    """Which module imports which, beside itself."""
    known = {path.relative_to(PACKAGE).with_suffix("").as_posix() for _, path in modules(PACKAGE)}
    found: dict[str, set[str]] = {}
    for module in known:
        names = [name.split(".")[1:] for name, _ in imports(PACKAGE / f"{module}.py") if name.startswith("edge_agent.")]
        found[module] = {"/".join(parts[:cut]) for parts in names for cut in (1, 2, 3)} & known - {module}
    return found


def test_every_room_has_its_floor() -> None:
    assert {room for room, _ in modules(PACKAGE)} == LEVEL.keys()


@pytest.mark.parametrize(
    ("room", "path"), [pytest.param(room, path, id=str(path.relative_to(PACKAGE))) for room, path in modules(PACKAGE)]
)
def test_imports_point_down(room: str, path: Path) -> None:
    assert list(breaches(path, room)) == []


def test_no_circle_within_a_room_either() -> None:
    left = arrows()
    while left:
        ready = {module for module, imported in left.items() if not imported & left.keys()}
        assert ready, f"these import one another: {sorted(left)}"
        left = {module: imported for module, imported in left.items() if module not in ready}


@pytest.mark.parametrize("other", sorted(OTHERS))
def test_others_import_the_pure_parts_only(other: str) -> None:
    wrong = [
        f"{path.relative_to(SIDE)}:{line}: {other} may not import edge_agent.{room_of(name)}"
        for _, path in modules(folder_of(other))
        for name, line in imports(path)
        if room_of(name) not in {None, *PUBLIC_TO_OTHERS}
    ]
    assert wrong == []


@pytest.mark.parametrize("other", sorted(VENDORS_OF_OTHERS))
def test_others_keep_their_vendors_too(other: str) -> None:
    found = {
        (name.partition(".")[0], path.stem)
        for _, path in modules(folder_of(other))
        for name, _ in imports(path)
        if name.partition(".")[0] in VENDORS_OF_OTHERS[other]
    }
    assert found == set(VENDORS_OF_OTHERS[other].items())


@pytest.mark.parametrize("package", ["edge_agent", "benchmarks", *sorted(OTHERS)])
def test_no_module_grows_past_its_size(package: str) -> None:
    """Past 400 lines, look for the second thing inside."""
    lengths = {
        str(path.relative_to(SIDE)): len(path.read_text().splitlines()) for _, path in modules(folder_of(package))
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_what_few_agents_need_is_loaded_by_those_alone() -> None:
    """The modules of `edge-agent run` before any setting is known."""
    names = "import edge_agent.cli.run, edge_agent.assembly, edge_agent.serving.reloading, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", names], capture_output=True, text=True, check=True).stdout.split()
    assert "edge_agent.serving.agent" in loaded
    assert {f"edge_agent.{one}" for one in ON_DEMAND} & {*loaded} == set()
    assert {"cryptography", "cbor2", "asyncio"} & {*loaded} == set()


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


def test_a_breach_is_seen(tmp_path: Path) -> None:
    """The test of the test: each wall, once broken, is reported."""
    source = tmp_path / "edge_agent" / "card.py"
    source.parent.mkdir()
    source.write_text(
        "import edge_convert.train\nfrom edge_agent import __version__, errors\nfrom . import errors as again\n"
    )
    found = {name for name, _ in imports(source, tmp_path)}
    assert found == {"edge_convert.train", "edge_agent.__version__", "edge_agent.errors"}
    assert room_of("edge_agent.errors.CardError") == "errors"
    assert room_of("edge_agent.__version__") is None
