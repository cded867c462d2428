"""What is in the wheel, and what a base install brings to a device."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, call

#: What a device must not be burdened with.
HEAVY = ("amqtt", "matplotlib", "onnx", "rich", "sklearn", "skl2onnx", "skops", "pyarrow")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_packages_and_the_model_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_agent", "edge_convert", "edge_deploy"}
    assert "edge_agent/models/genre.onnx" in names
    assert "edge_agent/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    kinds = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert kinds <= {".py", ".onnx", ".minisig", ".toml", ".typed", ".html", ".css", ".md", ".json"}


def test_the_base_install_is_what_a_device_needs(metadata: Message) -> None:
    required = {line.split(";")[0].strip() for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    names = {
        line.replace("<", " ").replace(">", " ").replace("!", " ").replace("=", " ").split()[0] for line in required
    }
    assert names == {"click", "cryptography", "numpy", "onnxruntime", "paho-mqtt", "pydantic", "pydantic-settings"}


def test_nothing_heavy_is_installed(python: Path) -> None:
    if "TESTED_VENV" in os.environ:
        pytest.skip("the environment that was named holds the test tools as well")
    code = "import importlib.util, json; print(json.dumps([n for n in {names!r} if importlib.util.find_spec(n)]))"
    done = call(python, "-I", "-c", code.format(names=HEAVY))
    assert json.loads(done.stdout) == []


def test_nothing_heavy_is_imported(python: Path, elsewhere: Path) -> None:
    code = (
        "import sys, json\n"
        "from edge_agent.cli.main import main\n"
        "import edge_agent.serving.agent, edge_agent.model.onnx\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = call(python, "-I", "-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_what_paho_would_import_and_we_do_not_need_is_not(python: Path, elsewhere: Path) -> None:
    """dnspython, which comes with Debian's recommended packages, and brings httpx, rich and 11 MiB along."""
    (elsewhere / "dns").mkdir()
    (elsewhere / "dns" / "__init__.py").write_text("")
    (elsewhere / "dns" / "resolver.py").write_text("raise SystemExit('dns was imported')\n")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(elsewhere)!r})\n"
        "from edge_agent.cli.main import main\n"
        "sys.argv = ['edge-agent', 'check', '--offline', '--quiet']\n"
        "try:\n    main()\n"
        "finally:\n    assert 'paho.mqtt.client' in sys.modules\n"
    )
    done = call(python, "-I", "-c", code)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_help_costs_no_model_and_no_client(python: Path, elsewhere: Path) -> None:
    """`--help` on a Raspberry Pi Zero must not take seconds: commands are imported when they are called."""
    code = (
        "import sys\n"
        "from edge_agent.cli.main import main\n"
        "sys.argv = ['edge-agent', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "late = [name for name in ('onnxruntime', 'paho', 'pydantic', 'numpy') if name in sys.modules]\n"
        "assert not late, late\n"
    )
    done = call(python, "-I", "-c", code)
    assert done.returncode == 0, done.stderr


def test_commands_introduce_themselves(edge_agent: Path, elsewhere: Path) -> None:
    overview = call(edge_agent, "--help")
    assert overview.returncode == 0, overview.stderr
    for command in ("run", "try", "check", "demo"):
        assert f"  {command}" in overview.stdout
        page = call(edge_agent, command, "--help")
        assert page.returncode == 0, page.stderr
        assert "Usage: edge-agent " in page.stdout
    version = call(edge_agent, "--version")
    assert version.returncode == 0
    assert any(character.isdigit() for character in version.stdout)


def test_its_bill_of_materials_is_valid_and_complete(wheel: Path, tmp_path: Path) -> None:
    if not (ROOT / "deploy" / "sbom.py").exists():
        pytest.skip("the clone is not here: this is the wheel's suite")
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    copy = tmp_path / wheel.name
    shutil.copy(wheel, copy)
    done = call(
        sys.executable, ROOT / "deploy" / "sbom.py", "wheel", copy, "--lock", ROOT / "requirements" / "device.txt"
    )
    assert done.returncode == 0, done.stderr
    text = Path(done.stdout.strip()).read_text()
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    assert found["metadata"]["component"]["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert {"numpy", "onnxruntime", "paho-mqtt", "pydantic", "pydantic-core", "genre.onnx"} <= {
        one["name"] for one in found["components"]
    }
    if given := os.environ.get("TESTED_WHEEL"):
        # scripts/test built them together.
        assert Path(given + ".cdx.json").read_text() == text


def test_the_page_is_carried(wheel: Path, edge_agent: Path, elsewhere: Path) -> None:
    """One file below 500 KB with the document and the licenses in it; or the command that makes it, where it was not built."""
    with zipfile.ZipFile(wheel) as archive:
        carried = "edge_agent/docs/page.html" in archive.namelist()
    done = call(edge_agent, "docs", "--out", "page.html")
    if not carried:
        assert done.returncode == 2
        assert "./scripts/console in the clone builds it" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    page = (elsewhere / "page.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 500_000
    assert '"x-edge-agent"' in page
    assert "Permission is hereby granted" in page
    assert "default-src 'none'" in page
