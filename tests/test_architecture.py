"""The shape of the package as a test: reading order, no cycles, who may import what, sizes, and no dead modules."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "diffhmr"

# A module imports only from layers above its own. Entries are module names or, with a trailing dot, packages.
READING_ORDER = [
    ["diffhmr.errors"],
    ["diffhmr.files"],
    ["diffhmr.random"],
    ["diffhmr.command_line"],
    ["diffhmr.config"],
    ["diffhmr.config_clips"],
    ["diffhmr.config_file"],
    ["diffhmr.geometry.", "diffhmr.diffusion."],
    ["diffhmr.body."],
    ["diffhmr.motion."],
    ["diffhmr.batch"],
    ["diffhmr.clip_batch", "diffhmr.motion_filter"],
    ["diffhmr.losses", "diffhmr.clip_losses"],
    ["diffhmr.metrics."],
    ["diffhmr.render."],
    ["diffhmr.models.", "diffhmr.datasets."],
    ["diffhmr.fitting."],
    ["diffhmr.model_file"],
    ["diffhmr.checkpoint", "diffhmr.motion_checkpoint"],
    ["diffhmr.clip_checkpoint"],
    ["diffhmr.task_checkpoint"],
    ["diffhmr.foreign."],
    ["diffhmr.training."],
    ["diffhmr.evaluation."],
    ["diffhmr.inference."],
]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60


def _modules() -> dict[str, Path]:
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = _modules()


def _layer(module: str) -> tuple[int, str]:
    for index, layer in enumerate(READING_ORDER):
        for entry in layer:
            prefix = entry.rstrip(".")
            if module == prefix or (entry[-1] == "." and module.startswith(prefix + ".")):
                return index, prefix
    raise AssertionError(f"{module} has no place in the reading order: add it to READING_ORDER and diffhmr/README.md")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(path: Path) -> set[str]:
    """Names of all modules imported anywhere in a file; ``from a import b`` counts as a.b where that is a module."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                assert alias.name != "*", f"{path}: star import"
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES else base)
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if name != "diffhmr"])
def test_imports_follow_the_reading_order(module: str) -> None:
    layer, room = _layer(module)
    for name in _imports(MODULES[module]):
        if not name.startswith("diffhmr.") or name == module:
            continue
        other_layer, other_room = _layer(name)
        assert (other_layer, other_room) == (layer, room) or other_layer < layer, f"{module} must not import {name}"


def test_no_cycles() -> None:
    graph = {module: {name for name in _imports(path) if name in MODULES} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for name in graph[module] - {module}:
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("pyrender", ("diffhmr.render.",)),
        ("OpenGL", ("diffhmr.render.",)),
        ("trimesh", ("diffhmr.render.",)),
        ("cv2", ("diffhmr.render.", "diffhmr.datasets.", "diffhmr.inference.")),
        ("smplx", ("diffhmr.body.",)),
        ("pydantic", ("diffhmr.config",)),
    ],
)
def test_libraries_stay_in_their_rooms(library: str, rooms: tuple[str, ...]) -> None:
    for module, path in MODULES.items():
        uses = any(name == library or name.startswith(library + ".") for name in _imports(path))
        assert not uses or module.startswith(rooms), f"{module} imports {library}"


@pytest.mark.parametrize("room", ["diffhmr.geometry.", "diffhmr.diffusion."])
def test_mathematics_knows_only_torch(room: str) -> None:
    standard = {"__future__", "collections", "dataclasses", "hashlib", "itertools", "math", "typing"}
    allowed = standard | {"torch", "roma", "diffhmr"}
    for module, path in MODULES.items():
        if module.startswith(room):
            for name in _imports(path):
                assert name.split(".")[0] in allowed, f"{module} imports {name}"
                assert not name.startswith("diffhmr") or name.startswith(room), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("module", MODULES)
def test_sizes(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(_tree(MODULES[module])):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION_LINES, f"{module}.{node.name} is too long"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "diffhmr"])
def test_public_names_are_documented(module: str) -> None:
    tree = _tree(MODULES[module])
    if MODULES[module].name != "__init__.py":
        assert ast.get_docstring(tree), f"{module} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"
            methods = node.body if isinstance(node, ast.ClassDef) else []
            for method in methods:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and method.name != "forward":
                    assert ast.get_docstring(method), f"{module}.{node.name}.{method.name} has no docstring"


def test_command_line_scripts_stay_thin() -> None:
    for name, most in (("train.py", 50), ("eval.py", 70), ("demo.py", 90)):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most
