"""The pages as the package ships them: laid out as in the clone, with links that lead somewhere on the device.

    python3 deploy/deb/pages.py DIRECTORY

writes README.md, CHANGELOG.md, SECURITY.md and docs/ with its pictures. A link to a file that the package installs
elsewhere leads there; a link to one that only the clone has becomes its text.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from posixpath import normpath
from typing import Final

ROOT = Path(__file__).resolve().parents[2]

#: What is shipped as it lies in the clone, by file name: the pages, which are rewritten, and what they show.
PAGES: Final = ("README.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md")
PICTURES: Final = ("docs/**/*.svg", "docs/**/*.png")
#: Files that pages speak of and that lie elsewhere on a device: in the clone, and there.
ELSEWHERE: Final[Mapping[str, str]] = {
    "deploy/edge-agent.toml": "/usr/share/edge-agent/edge-agent.toml",
    "docs/examples/network.conf": "/usr/share/doc/edge-agent/examples/network.conf",
    "deploy/prometheus/mqtt-exporter.yaml": "/usr/share/edge-agent/prometheus/mqtt-exporter.yaml",
    "deploy/prometheus/prometheus.yml": "/usr/share/edge-agent/prometheus/prometheus.yml",
    "deploy/prometheus/edge-agent-alerts.yml": "/usr/share/edge-agent/prometheus/edge-agent-alerts.yml",
    "deploy/grafana/dashboard.json": "/usr/share/edge-agent/grafana/dashboard.json",
    "systemd/edge-agent.service": "/usr/lib/systemd/system/edge-agent.service",
    "systemd/edge-agent@.service": "/usr/lib/systemd/system/edge-agent@.service",
}

_FENCED: Final = re.compile(r"(^\s*```.*?^\s*```\s*?$)", re.MULTILINE | re.DOTALL)
#: A span of code, which is passed over, or a link; its label may have code in it.
_LINK: Final = re.compile(r"`[^`]*`|!?\[(?P<label>(?:`[^`]*`|[^\[\]])*)\]\((?P<target>[^)\s]+)\)")


def shipped(root: Path) -> list[str]:
    """Return what the package has of the clone in `root`, relative to it: pages and pictures."""
    return sorted(path.relative_to(root).as_posix() for pattern in (*PAGES, *PICTURES) for path in root.glob(pattern))


def rewrite(text: str, page: str, names: list[str]) -> str:
    """Return the text of `page` with links that resolve where only `names` are shipped."""
    folders = {parent.as_posix() for name in names for parent in Path(name).parents}

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or re.match(r"[a-z][a-z0-9+.-]*:|#", target):
            return found[0]
        file, mark, anchor = target.partition("#")
        place = normpath(f"{Path(page).parent.as_posix()}/{file}")
        if place in names or place in folders:
            return found[0]
        elsewhere = ELSEWHERE.get(place)
        return found["label"] if elsewhere is None else found[0].replace(f"({target})", f"({elsewhere}{mark}{anchor})")

    parts = _FENCED.split(text)
    return "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(parts))


def write(root: Path, directory: Path) -> None:
    """Write what is shipped of the clone in `root` into the directory."""
    names = shipped(root)
    for name in names:
        to = directory / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.suffix == ".md":
            to.write_text(rewrite((root / name).read_text(encoding="utf-8"), name, names), encoding="utf-8")
        else:
            shutil.copyfile(root / name, to)


if __name__ == "__main__":
    write(ROOT, Path(*sys.argv[1:]))
