"""The table of rooms in docs/design.md, which its drawing follows, against the imports of the code."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BASE = {"errors", "files", "splits", "cli", "status", "remote", "mirror"}
TEXT = (ROOT / "docs/design.md").read_text(encoding="utf-8")
ROOMS = {
    room: set(filter(None, re.split(r",\s*", imports.strip())))
    for room, imports in re.findall(r"^\| `(\w+)` \| .* \|([^|]*)\|$", TEXT, flags=re.MULTILINE)
}


def imports_of(path: pathlib.Path) -> set[str]:
    """The rooms and modules of this project that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    rooms = {name[1] for name in parts if name[0] == "pipeline" and len(name) > 1}
    return rooms | {name[0] for name in parts if name[0] in ("models", "tools", "train", "tests")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_table_lists(room):
    folder = ROOT / ("models" if room == "models" else f"pipeline/{room}")
    imported = set().union(*(imports_of(path) for path in folder.rglob("*.py")))
    assert imported - BASE - {room} == ROOMS[room]


def test_the_base_imports_no_room():
    for name in BASE:
        assert imports_of(ROOT / f"pipeline/{name}.py") <= BASE


def test_the_table_lists_all_rooms_and_no_import_points_up():
    folders = {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")} | {"models"}
    assert set(ROOMS) == folders
    order = list(ROOMS)
    for room, imports in ROOMS.items():
        assert all(order.index(other) > order.index(room) for other in imports), room
