"""The pages of the Debian package lead somewhere on a device. tests/e2e/test_deb.py looks at the built package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import ROOT, broken_links

deb_pages = pytest.importorskip("deploy.deb.pages", reason="the clone is not here: this is the wheel's suite")

DOC = "usr/share/doc/edge-agent"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages speak of, where the package has them."""
    device = tmp_path_factory.mktemp("device")
    deb_pages.write(ROOT, device / DOC)
    for here, there in deb_pages.ELSEWHERE.items():
        assert (ROOT / here).is_file()
        to = device / there.removeprefix("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.touch()
    return device


def test_links_lead_somewhere_on_a_device(device: Path) -> None:
    pages = sorted((device / DOC).rglob("*.md"))
    assert {"README.md", "SECURITY.md", "messages.md", "security.md"} <= {page.name for page in pages}
    assert [line for page in pages for line in broken_links(page, device)] == []


def test_the_files_that_manual_and_units_name_are_shipped(device: Path) -> None:
    texts = [*(ROOT / "systemd").glob("*.service"), *(ROOT / "deploy" / "deb" / "man").glob("*.in")]
    named = {
        path for text in texts for path in re.findall(r"/usr/share/doc/\S+\.\w+", text.read_text().replace("\\-", "-"))
    }
    assert len(named) >= 4
    assert [path for path in sorted(named) if not (device / path[1:]).is_file()] == []


def test_links_are_rewritten() -> None:
    names = ["README.md", "docs/a.md", "docs/b/c.md"]

    def rewritten(text: str, page: str = "docs/a.md") -> str:
        return str(deb_pages.rewrite(text, page, names))

    same = "[c](b/c.md#x) [all](b/) [up](../README.md) [here](#here) [web](https://example.org/x.md) ![](../README.md)"
    assert rewritten(same) == same
    assert rewritten("so [a `name`](../benchmarks/load.py), [two\nlines](../convert/)") == "so a `name`, two\nlines"
    assert rewritten("[all](deploy/edge-agent.toml#mqtt)", "README.md") == (
        "[all](/usr/share/edge-agent/edge-agent.toml#mqtt)"
    )
    code = "`[x](none.md)`\n```sh\n[x](none.md)\n```\n"
    assert rewritten(code + "[x](none.md)\n" + code) == code + "x\n" + code
