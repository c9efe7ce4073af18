"""What is deployed, as far as it can be told without a container engine: that it names what there is, and gives away nothing."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from audit.command import main

ROOT = Path(__file__).parents[1]

COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yml").read_text())

OURS = {name: each for name, each in COMPOSE["services"].items() if each.get("image", "").startswith("simtrail:")}

DOCKERFILE = (ROOT / "Dockerfile").read_text()

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log is, as each of them is told."""
    monkeypatch.setenv("SIMTRAIL_LOG", "postgresql://simtrail@postgres/simtrail")


def parsed(arguments: list[str]) -> None:
    """Raise unless these are a command of ours with options that it has."""
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    command.make_context("simtrail", arguments)


@pytest.mark.parametrize("name", OURS)
def test_each_container_runs_a_command_without_rights(name: str) -> None:
    """Read-only, without capabilities, with bounds and a health check; published on loopback alone."""
    service: dict[str, Any] = OURS[name]
    parsed(list(service["command"]))
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["healthcheck"]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["image"] == f"simtrail:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"


def test_datasettes_container_knows_nothing_of_the_log() -> None:
    """It has neither the log's place nor its password, nor a network that leads there."""
    service = OURS["datasette"]
    assert not {"SIMTRAIL_LOG", "PGPASSWORD"} & service["environment"].keys()
    assert "log" not in service["networks"]


def test_only_init_has_the_owners_password() -> None:
    """What runs can append and read."""
    owner = {name for name, each in OURS.items() if "POSTGRES_PASSWORD" in str(each["environment"])}
    assert owner == {"init"}
    assert all("simtrail@" in OURS[name]["environment"]["SIMTRAIL_LOG"] for name in ("receiver", "projector"))


def test_the_image_has_every_package_and_no_root() -> None:
    """What the wheel is made of is copied, all that is copied is there, and what runs is not root."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]
    }
    assert set(packages) | {"metadata.yml", "pyproject.toml"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    ignored = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert ignored == copied
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "--require-hashes" in DOCKERFILE


def test_the_documented_installation_is_the_images_and_the_units() -> None:
    """As the Dockerfile installs what runs, and where the units look for it."""
    lines = [line.strip() for line in (ROOT / "docs/operating.md").read_text().splitlines() if line.startswith("    ")]
    place = "/opt/simtrail/.venv"
    installs = [
        line.partition(" -m pip install ")[2] for line in lines if line.startswith(f"{place}/bin/python -m pip")
    ]
    image = DOCKERFILE.replace(" \\\n", "\n").replace("--no-cache-dir ", "").replace("/tmp/wheel/*", "build/simtrail-*")  # noqa: S108
    assert installs == re.findall(r"/opt/simtrail/bin/python -m pip install (.*)$", image, re.MULTILINE)
    assert f"python3 -m venv {place}" in lines
    assert "--outdir build" in (ROOT / "Makefile").read_text()
    assert all(f"{place}/bin/simtrail" in unit.read_text() for unit in UNITS)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_runs_a_command_that_there_is(unit: Path) -> None:
    """With options that it has."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    if "/bin/sh" in line:
        line = shlex.split(line)[-1].removeprefix("exec ")
    parsed(shlex.split(line.replace("%i", "8080"))[1:])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_is_one(unit: Path, tmp_path: Path) -> None:
    """As systemd itself reads it; what it starts need not be installed here."""
    copy = tmp_path / unit.name.replace("@.", "@8080.")
    copy.write_text(unit.read_text().replace("/opt/simtrail/.venv/bin/simtrail", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
