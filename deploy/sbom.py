"""What is in a wheel or a Debian package, and what it needs: a bill of materials (CycloneDX 1.6, JSON), beside the file.

    python deploy/sbom.py wheel FILE.whl --lock requirements/device.txt
    python deploy/sbom.py deb FILE.deb --status /var/lib/dpkg/status

A wheel's libraries are those of the lock, with which it was tested; a Debian package's are those of the Debian that it was
built in, as dpkg's status names them. What the page of `docs --out` has of npm's libraries is told by the page itself. The same file and list give the same bytes: nothing of the time or the machine is in it.
Standard library only, for it runs wherever the package is built.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

MODELS: Final = "edge_agent/models/"
#: The page of `edge-agent docs --out`, which is in what was built with it.
PAGE: Final = "edge_agent/docs/page.html"
LICENSE: Final = "Apache-2.0"
#: On top of which the serial numbers are made.
_SPACE: Final = uuid.UUID("c1f6a2c5-2a57-4e0f-9a52-3f0b3fb0a6d4")


@dataclass
class Component:
    """One library: `ref` names it in the list, `needs` are the refs of those it needs."""

    name: str
    version: str
    ref: str
    #: For which interpreters it is (PEP 508), when it is not for all.
    marker: str = ""
    needs: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        """Return it as CycloneDX has it."""
        found: dict[str, Any] = {
            "type": "library",
            "bom-ref": self.ref,
            "name": self.name,
            "version": self.version,
            "purl": self.ref,
        }
        if self.marker:
            found["properties"] = [{"name": "python:environment-marker", "value": self.marker}]
        return found


def pypi(name: str, version: str) -> str:
    """Return the package URL of a distribution on PyPI, or one that could be there."""
    return f"pkg:pypi/{quote(name)}@{quote(version, safe='.')}"


def debian(name: str, version: str, architecture: str) -> str:
    """Return the package URL of a Debian package."""
    return f"pkg:deb/debian/{quote(name, safe='.')}@{quote(version, safe='.~')}?arch={architecture}"


def npm(name: str, version: str) -> str:
    """Return the package URL of a library from npm."""
    return f"pkg:npm/{quote(name)}@{quote(version, safe='.')}"


def locked(text: str) -> tuple[list[Component], set[str]]:
    """The components of a lock by `uv pip compile` (or pip-compile), and the refs of those that the project itself needs.

    What needs whom stands there the other way round, in the comments: "# via" and who asked for it.
    """
    found: list[Component] = []
    wanted_by: dict[str, list[str]] = {}
    for line in text.splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: *; *([^\\]*))?", line):
            name, version, marker = pinned[1], pinned[2], (pinned[3] or "").strip()
            # The same version twice would be one thing; two versions are for two kinds of interpreters.
            found.append(Component(name, version, pypi(name, version), marker))
            wanted_by.setdefault(found[-1].ref, [])
        elif found and (via := re.match(r" +# +(?:via)? *(\S.*)?$", line)) and via[1]:
            wanted_by[found[-1].ref].append(via[1].split()[0])
    direct = set[str]()
    for ref, names in wanted_by.items():
        for name in names:
            askers = [component for component in found if component.name == name]
            for asker in askers:
                asker.needs.add(ref)
            if not askers:
                direct.add(ref)
    return found, direct


def installed(status: str, names: list[str]) -> tuple[list[Component], set[str]]:
    """Of dpkg's status: the packages named, with all that they depend on, and the refs of those named."""
    stanzas = dict[str, dict[str, str]]()
    providers = dict[str, str]()
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): *((?:.*)(?:\n .*)*)", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            stanzas[fields["Package"]] = fields
            for provided, *_ in _alternatives(fields.get("Provides", "")):
                providers.setdefault(provided, fields["Package"])

    def there(group: list[str]) -> str | None:
        """Return the first of the alternatives that is installed, or who provides it."""
        found = (one if one in stanzas else providers.get(one) for one in group)
        return next((name for name in found if name), None)

    components = dict[str, Component]()
    waiting = [found for name in names if (found := there([name]))]
    direct = list(waiting)
    needs = dict[str, list[str]]()
    while waiting:
        name = waiting.pop()
        if name in components:
            continue
        fields = stanzas[name]
        version = fields["Version"]
        components[name] = Component(name, version, debian(name, version, fields["Architecture"]))
        groups = _alternatives(f"{fields.get('Pre-Depends', '')}, {fields.get('Depends', '')}")
        needs[name] = [found for group in groups if (found := there(group))]
        waiting += needs[name]
    for name, component in components.items():
        component.needs = {components[other].ref for other in needs[name]}
    return [components[name] for name in sorted(components)], {components[name].ref for name in direct}


def bundled(page: bytes) -> list[Component]:
    """The libraries within the page of `edge-agent docs --out`: it has their licenses, each below its name and version."""
    found = re.search(r'<script type="text/plain" id="licenses">(.*?)</script>', page.decode(), re.DOTALL)
    if found is None:
        raise ValueError(f"{PAGE}: names no libraries")
    heads = [part.split("\n", 1)[0] for part in re.split(r"\n\n-{72}\n\n", found[1])]
    named = [re.fullmatch(r"(\S+) (\S+) \(.+\)", head) for head in heads]
    return [Component(one[1], one[2], npm(one[1], one[2])) for one in named if one]


def _alternatives(relations: str) -> Iterator[list[str]]:
    """The names in a field of dependencies, without versions: "a (>= 1) | b, c" is [a, b] and [c]."""
    for relation in relations.split(","):
        names = [re.split(r"[ (:\[]", one.strip(), maxsplit=1)[0] for one in relation.split("|")]
        if names[0]:
            yield names


def bill(artifact: Path, what: Component, components: list[Component], models: Mapping[str, str]) -> dict[str, Any]:
    """Return the document: `what` is the artifact itself, and `models` are the SHA-256 of the models within, by name."""
    ref = what.ref
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    found = sorted((component.as_json() for component in components), key=lambda one: str(one["bom-ref"]))
    for model, sha256 in sorted(models.items()):
        found.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"{ref}#{quote(model)}",
                "name": model,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
        )
    needs = {component.ref: sorted(component.needs) for component in components}
    needs[ref] = sorted(what.needs) + [f"{ref}#{quote(model)}" for model in sorted(models)]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ref,
                "name": what.name,
                "version": what.version,
                "purl": ref,
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "licenses": [{"license": {"id": LICENSE}}],
            },
            "properties": [{"name": "file", "value": artifact.name}],
        },
        "components": found,
        "dependencies": [{"ref": one, "dependsOn": others} for one, others in sorted(needs.items())],
    }
    serial = uuid.uuid5(_SPACE, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def of_wheel(wheel: Path, lock: Path) -> dict[str, Any]:
    """Return the bill of a wheel that needs what stands in the lock."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        said = message_from_bytes(archive.read(metadata))
        models = {
            name.removeprefix(MODELS): hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.startswith(MODELS) and name.endswith(".onnx")
        }
        inside = bundled(archive.read(PAGE)) if PAGE in archive.namelist() else []
    name, version = str(said["Name"]), str(said["Version"])
    components, direct = locked(lock.read_text(encoding="utf-8"))
    needs = direct | {one.ref for one in inside}
    return bill(wheel, Component(name, version, pypi(name, version), needs=needs), [*components, *inside], models)


def of_deb(deb: Path, status: Path) -> dict[str, Any]:
    """Return the bill of a Debian package that needs what dpkg's status says is installed."""
    said = subprocess.run(  # noqa: S603 - dpkg's own tool, on a file that was just built
        ["dpkg-deb", "--field", str(deb)],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    fields = dict(re.findall(r"^([A-Za-z-]+): *((?:.*)(?:\n .*)*)", said, re.MULTILINE))
    names = [group[0] for group in _alternatives(fields["Depends"])]
    components, direct = installed(status.read_text(encoding="utf-8"), names)
    name, version = fields["Package"], fields["Version"]
    ref = debian(name, version, fields["Architecture"])
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout  # noqa: S603, S607
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        pages = [archive.extractfile(one) for one in archive.getmembers() if one.name.endswith(f"/{PAGE}")]
    inside = [component for page in pages if page is not None for component in bundled(page.read())]
    needs = direct | {one.ref for one in inside}
    return bill(deb, Component(name, version, ref, needs=needs), [*components, *inside], {})


def main() -> None:
    """Write the bill and print its path."""
    parser = argparse.ArgumentParser(description="Write FILE.cdx.json, a bill of materials (CycloneDX), beside FILE.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    wheel = kinds.add_parser("wheel")
    wheel.add_argument("file", type=Path)
    wheel.add_argument("--lock", type=Path, required=True)
    deb = kinds.add_parser("deb")
    deb.add_argument("file", type=Path)
    deb.add_argument("--status", type=Path, required=True)
    given = parser.parse_args()
    document = of_wheel(given.file, given.lock) if given.kind == "wheel" else of_deb(given.file, given.status)
    out = given.file.with_name(given.file.name + ".cdx.json")
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
