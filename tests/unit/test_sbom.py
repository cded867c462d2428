"""Bills of materials (deploy/sbom.py), and the locks that those of a wheel are made from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

sbom = pytest.importorskip("deploy.sbom", reason="the clone is not here: this is the wheel's suite")

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements" / name for name in ("device.txt", "suite.txt")]

LOCK = """\
# A comment.
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00 \\
    --hash=sha256:01
    # via
    #   edge-label-agent (pyproject.toml)
    #   onnxruntime
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:02
    # via
    #   edge-label-agent (pyproject.toml)
    #   onnxruntime
onnxruntime==1.32.0 \\
    --hash=sha256:03
    # via edge-label-agent (pyproject.toml)
protobuf==7.36.2 \\
    --hash=sha256:04
    # via onnxruntime
"""

STATUS = """\
Package: python3-numpy
Status: install ok installed
Version: 1:2.2.4+ds-1
Architecture: amd64
Depends: python3 (<< 3.14), libblas3 | libblas.so.3, libc6 (>= 2.38)

Package: libopenblas0
Status: install ok installed
Version: 0.3.29
Architecture: amd64
Provides: libblas.so.3
Depends: libc6

Package: libc6
Status: install ok installed
Version: 2.41-12
Architecture: amd64

Package: python3
Status: install ok installed
Version: 3.13.5-1
Architecture: amd64
Pre-Depends: libc6

Package: vim
Status: install ok installed
Version: 9
Architecture: amd64

Package: libblas3
Status: deinstall ok config-files
Version: 3
Architecture: amd64
"""


def test_a_lock_is_read_with_who_needs_what() -> None:
    components, direct = sbom.locked(LOCK)
    assert [(one.name, one.version, one.marker) for one in components] == [
        ("numpy", "2.4.6", "python_full_version < '3.12'"),
        ("numpy", "2.5.5", "python_full_version >= '3.12'"),
        ("onnxruntime", "1.32.0", ""),
        ("protobuf", "7.36.2", ""),
    ]
    assert direct == {"pkg:pypi/numpy@2.4.6", "pkg:pypi/numpy@2.5.5", "pkg:pypi/onnxruntime@1.32.0"}
    assert components[2].needs == {"pkg:pypi/numpy@2.4.6", "pkg:pypi/numpy@2.5.5", "pkg:pypi/protobuf@7.36.2"}
    assert components[3].needs == set()


def test_what_is_installed_is_read_with_all_that_it_needs() -> None:
    components, direct = sbom.installed(STATUS, ["python3-numpy", "not-there"])
    assert [one.name for one in components] == ["libc6", "libopenblas0", "python3", "python3-numpy"]
    numpy = components[3]
    assert numpy.ref == "pkg:deb/debian/python3-numpy@1%3A2.2.4%2Bds-1?arch=amd64"
    assert numpy.needs == {one.ref for one in components[:3]}
    assert direct == {numpy.ref}


def test_the_same_things_make_the_same_bill(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"wheel")
    components, direct = sbom.locked(LOCK)
    what = sbom.Component("a", "1", "pkg:pypi/a@1", needs=direct)
    made = [sbom.bill(wheel, what, components, {"m.onnx": "00" * 32}) for _ in range(2)]
    assert made[0] == made[1]
    refs = {made[0]["metadata"]["component"]["bom-ref"]} | {one["bom-ref"] for one in made[0]["components"]}
    named = {one["ref"] for one in made[0]["dependencies"]}
    assert named <= refs
    assert {other for one in made[0]["dependencies"] for other in one["dependsOn"]} <= refs
    wheel.write_bytes(b"another wheel")
    assert sbom.bill(wheel, what, components, {})["serialNumber"] != made[0]["serialNumber"]


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_hashes_and_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    for pinned in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert re.match(r"[a-z0-9._-]+==\S+", pinned), pinned
        assert "--hash=sha256:" in pinned, pinned


def requirements(project: Any, *, suite: bool) -> list[str]:
    found = list(project["project"]["dependencies"])
    if suite:
        for extra in project["project"]["optional-dependencies"].values():
            found += extra
        found += project["dependency-groups"]["dev"]
    return found


@pytest.mark.parametrize(
    ("lock", "suite"), [*zip(LOCKS, (False, True), strict=True)], ids=lambda one: getattr(one, "name", None)
)
def test_a_lock_fits_the_project(project: Any, lock: Path, suite: bool) -> None:
    """What pyproject.toml asks for is in it, within its bounds. It may be older than the newest there is."""
    packaging = pytest.importorskip("packaging.requirements")
    pinned = {(one.name, one.version) for one in sbom.locked(lock.read_text())[0]}
    for text in requirements(project, suite=suite):
        wanted = packaging.Requirement(text)
        versions = [version for name, version in pinned if name == wanted.name.lower()]
        assert versions, f"{lock.name} lacks {wanted.name}: run scripts/lock"
        assert all(version in wanted.specifier for version in versions), f"{text} is not {versions}: run scripts/lock"


def test_the_page_tells_what_is_in_it() -> None:
    line = "-" * 72
    said = f"mqtt 5.16.0 (MIT)\n\nThe MIT License\n\n{line}\n\n@a/b 1.0.0 (ISC OR MIT)\n\ntext\n---\nmore (x)"
    page = f'<script type="text/plain" id="licenses">{said}</script><script>x</script>'
    found = sbom.bundled(page.encode())
    assert [component.ref for component in found] == ["pkg:npm/mqtt@5.16.0", "pkg:npm/%40a/b@1.0.0"]
    with pytest.raises(ValueError, match="names no libraries"):
        sbom.bundled(b"<p>")
