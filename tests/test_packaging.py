"""What is installed is this repository, whole, and nothing of the machine that made it."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PACKAGES = ("schema", "ingest", "projections", "audit")

LEAKS = re.compile(
    r"""
      \b(?:pypi\.org | pythonhosted\.org | npmjs\.(?:org|com) | yarnpkg\.com)\b   # a registry's host
    | --(?:extra-index-url|index-url|find-links|trusted-host)\b                   # an index of somebody's
    | (?<![\w.])/(?:home|root|work|Users)/\w                                      # a machine's path
    | \bfile:///\w                                                                # the same, as a URL
    """,
    re.VERBOSE,
)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_the_repositorys_own(package: str) -> None:
    """The package that an import finds lies in this repository: no stranger's of the same name, no stale copy."""
    file = importlib.import_module(package).__file__

    assert file is not None
    assert Path(file).resolve() == (ROOT / package / "__init__.py").resolve()


def test_installed_version_is_the_trees() -> None:
    """The version that the installed distribution states is the one in pyproject.toml."""
    try:
        installed = metadata.version("simtrail")
    except metadata.PackageNotFoundError:
        pytest.skip("simtrail isn't installed in this environment")

    assert installed == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_wheel_holds_the_packages_whole(tmp_path: Path) -> None:
    """The wheel holds every file of the four packages, their typing marks, and Datasette's description; no test."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    of_the_tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == of_the_tree | {"audit/metadata.yml"}
    assert held >= {f"{package}/py.typed" for package in PACKAGES}


def pins(name: str) -> dict[str, str]:
    """The packages that a file of requirements pins, each with its version; every one of them has a hash."""
    text = (ROOT / "requirements" / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    found = {}
    for entry in filter(None, entries):
        match = re.match(r"([a-z0-9-]+)==(\S+)[^\n]* \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+\Z", entry)
        assert match, entry[:200]
        found[match[1]] = match[2]
    return found


def test_what_is_installed_is_what_is_tested() -> None:
    """Each file pins by hashes alone; what runs, with time-stamps or without, has the versions that the tests run with."""
    run, stamping, tested = pins("run.txt"), pins("timestamps.txt"), pins("dev.txt")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["timestamps"]

    assert stamping.keys() - run.keys() == {re.split("[<>=~]", each)[0] for each in extra}
    assert run.items() <= stamping.items() <= tested.items()


def test_no_committed_file_names_a_registry_or_a_machine() -> None:
    """No committed file says where packages were fetched from or in which folder somebody worked."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    found = [
        f"{name}:{number}: {line.strip()}"
        for name in filter(None, listed.split("\0"))
        if (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
        if LEAKS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-" + "url somewhere",
        "at https://files.pythonhosted" + ".org/packages/x.whl",
        "see https://pypi" + ".org/project/x",
        "# via -r /" + "home/somebody/requirements.txt",
        "x @ file:" + "///srv/x.whl",
    ],
)
def test_a_leak_is_recognised(line: str) -> None:
    """Lines that give a registry or a machine away are told from others."""
    assert LEAKS.search(line)
    assert not LEAKS.search("uv pip compile --no-emit-index-url; https://example.org/home/page; sqlite:///log.db")
