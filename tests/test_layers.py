"""The arrows between the packages point one way, read from the source itself."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "schema": {"schema"},
    "ingest": {"ingest", "schema"},
    "projections": {"projections", "schema"},
    "audit": {"audit", "ingest", "projections", "schema"},
}


def imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Each import in a module of a package, wherever it stands: its line and its absolute name.

    A relative import that climbs out of the top-level package reads as one of that package's neighbour.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from ((node.lineno, absolute(f"{module or ''}.{alias.name}", level, package)) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                bare = name.lstrip(".")
                yield node.lineno, absolute(bare, len(name) - len(bare), package)
            case _:
                pass


def absolute(name: str, level: int, package: str) -> str:
    """A name imported at a level of a package (0 is absolute already), from the top."""
    parts = package.split(".")
    base = parts[: max(0, len(parts) - level + 1)] if level else []
    return ".".join([*base, *filter(None, name.split("."))])


def upward_imports(root: Path) -> list[str]:
    """Every import between the packages under a folder that the arrows forbid, as ``file:line imports name``."""
    found = []
    for layer, allowed in MAY_IMPORT.items():
        for path in sorted((root / layer).rglob("*.py")):
            place = path.relative_to(root)
            for line, name in imported(ast.parse(path.read_bytes()), ".".join(place.parent.parts)):
                top = name.partition(".")[0]
                if top in MAY_IMPORT and top not in allowed:
                    found.append(f"{place}:{line} imports {name}")
    return found


def test_arrows_point_one_way() -> None:
    """The schema imports no other package, ingest and projections the schema alone, and audit any."""
    assert upward_imports(ROOT) == []


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_every_layer_is_looked_at(layer: str) -> None:
    """Each package named by the rule is there, so the rule can't hold by looking at nothing."""
    assert (ROOT / layer / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("module", "source", "line", "name"),
    [
        ("schema/planted.py", "from audit import settings", 1, "audit.settings"),
        ("schema/planted.py", "import os, ingest.app as app", 1, "ingest.app"),
        ("ingest/planted.py", "import projections", 1, "projections"),
        ("projections/planted.py", "from ingest.sources import Sources", 1, "ingest.sources.Sources"),
        ("ingest/planted.py", "def late():\n    from audit.command import main", 2, "audit.command.main"),
        (
            "projections/deep/planted.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import audit",
            3,
            "audit",
        ),
        ("schema/planted.py", "from .. import projections", 1, "projections"),
        ("schema/deep/planted.py", "from ...ingest import app", 1, "ingest.app"),
        (
            "ingest/planted.py",
            "import importlib\nimportlib.import_module('projections.follow')",
            2,
            "projections.follow",
        ),
        ("ingest/planted.py", "from importlib import import_module\nimport_module('..audit', __package__)", 2, "audit"),
        ("schema/planted.py", "__import__('audit')", 1, "audit"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, source: str, line: int, name: str) -> None:
    """An import against the arrows is found with its place, however it is written."""
    for layer in MAY_IMPORT:
        shutil.copytree(ROOT / layer, tmp_path / layer)
    planted = tmp_path / module
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(source)

    assert set(upward_imports(tmp_path)) - set(upward_imports(ROOT)) == {f"{module}:{line} imports {name}"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("audit/planted.py", "import ingest, projections, schema"),
        ("ingest/planted.py", "from schema.audit import words"),
        ("projections/planted.py", "from .ingest import words"),
        ("projections/planted.py", "import auditor"),
        ("schema/deep/planted.py", "from ..errors import SimtrailError"),
    ],
)
def test_an_import_along_the_arrows_is_not(tmp_path: Path, module: str, source: str) -> None:
    """An import along the arrows, or of a like-named module elsewhere, is no finding."""
    planted = tmp_path / module
    planted.parent.mkdir(parents=True)
    planted.write_text(source)

    assert upward_imports(tmp_path) == []
