"""Pages lead somewhere, and their shell blocks say how they are meant (tests/documents.py)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edge_agent import doctor
from edge_agent.payload import formats
from edge_agent.serving.requests import VERBS
from tests.documents import ROOT, blocks, broken_links, documents, missing_paths
from tests.unit.test_architecture import FLOORS


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


#: The pages that say where things are. Those that tell what was (decisions, changes) name what may be gone.
MAPS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/index.md", "docs/architecture.md")


@pytest.mark.parametrize("page", MAPS)
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    assert missing_paths(ROOT / page) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_path_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`link/link.py`, `edge_agent/`, tests/unit/, `./scripts/demo`, [x](none/none.py), `music/a/features`, `/etc/x.py`\n"
        "`link/none.py` and edge_agent/none/ and `none.py`, `docs/none.svg`.\n"
    )
    assert [line.split(": ")[1] for line in missing_paths(page)] == [
        "link/none.py",
        "edge_agent/none/",
        "none.py",
        "docs/none.svg",
    ]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of a table of docs/messages.md, without those of its head; `heading` is its first column's."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()[2:]]


def test_the_formats_of_the_page_are_those_of_the_registry() -> None:
    rows = table("messages.md", "content type")
    assert [re.findall(r"`([^`]+)`", row[0]) for row in rows] == [[content_type] for content_type in formats.ALL]
    for (_, payload, answer), one in zip(rows, formats.ALL.values(), strict=True):
        assert one.reads in payload
        assert answer == formats.ALL[one.answers].name
        assert one.needs is None or f"needs {one.needs}" in payload.replace("`", "")
    settings = (ROOT / "deploy" / "edge-agent.toml").read_text()
    assert [content_type for content_type in formats.ALL if f'"{content_type}"' not in settings] == []


def test_the_verbs_of_the_page_are_those_of_the_registry() -> None:
    rows = table("messages.md", "verb")
    assert [row[0] for row in rows] == [f"`{name}`" for name in VERBS]
    for (_, answer), verb in zip(rows, VERBS.values(), strict=True):
        assert answer.replace("`", "").startswith(verb.about)
    topics = {row[0]: row[2] for row in table("messages.md", "topic")}
    assert re.findall(r"`(\w+)`", topics["`edge/{node}/request/{verb}`"]) == list(VERBS)


def test_the_house_in_the_page_is_the_house() -> None:
    """The table has the floors of the architecture test, in order, and the drawing has every room."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("| floor |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [frozenset(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table] == list(FLOORS)
    drawing = page.partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"\w+", drawing))
    assert frozenset().union(*FLOORS) - {"__main__"} <= drawn


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_blocks_can_be_run(path: Path) -> None:
    for block in blocks(path):
        prompts = [line for line in block.text.splitlines() if line.startswith(("$ ", "# ", "> ")) and line[0] != "#"]
        assert not prompts, f"{block}: no prompts in ```sh; use ```console to show a session"


def test_blocks_and_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` c\n[x](page.md#a-b-c) [y](none.md) [z](#nothing) [w](https://example.org)\n"
        "<!-- background -->\n<!-- prints: Rock -->\n```sh\nedge-agent run\n# more\n```\n"
        "\ntext\n\n```text\n[no](link.md)\n```\n"
        "<!-- not run: it needs root -->\n```sh\napt install x\n```\n```sh\ntrue\n```\n"
    )
    assert broken_links(page) == ["page.md:2: none.md: no such file", "page.md:2: #nothing: no such heading"]
    first, second, third = blocks(page)
    assert (first.text, first.background, first.prints) == ("edge-agent run\n# more", True, ("Rock",))
    assert (first.line, str(first)) == (5, "page.md:5")
    assert second.not_run == "it needs root"
    assert (third.text, third.background, third.not_run) == ("true", False, None)
    page.write_text("<!-- not run: -->\n```sh\nx\n```\n")
    with pytest.raises(ValueError, match="needs a reason"):
        blocks(page)


def test_every_finding_of_the_doctor_is_in_the_table_of_its_page() -> None:
    page = (ROOT / "docs" / "check.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    listed = {what for row in rows for what in row.split("|")[1].strip().split(", ")} - {"finding", "---"}
    found = {"configuration"}
    for file in Path(doctor.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
                first = call.args[0]
                if call.func.id in {"ok", "note", "fail", "failed"} and isinstance(first, ast.Constant):
                    found.add(str(first.value))
    assert found == listed
