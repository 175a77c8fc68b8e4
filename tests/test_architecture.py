"""The arrows between packages, who reads the environment, and where heavy libraries are loaded."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Who may import whom. `loraplex` is the face: it may import each, but only inside functions.
ARROWS: dict[str, set[str]] = {
    "adapters_registry": set(),
    "gateway": {"adapters_registry"},
    "training": {"adapters_registry"},
    "loadtest": set(),
    "loraplex": {"adapters_registry", "gateway", "training", "loadtest"},
}
PACKAGES = set(ARROWS)

HEAVY = {"accelerate", "datasets", "gguf", "peft", "torch", "transformers", "trl", "vllm"}
LIGHT_PACKAGES = ["adapters_registry", "gateway", "loraplex"]

# The environment is read in gateway/config.py. The exceptions, each with its reason:
READS_ENVIRONMENT = {
    "gateway/config.py": "the settings",
    "gateway/launch.py": "hands the environment on to vLLM's process",
    "training/evaluation/engine_child.py": "sets up vLLM's own process",
    "training/evaluation/trainers_model.py": "sets how its own threads wait",
    "training/merge/verification/child.py": "sets how its own threads wait",
    "loadtest/command/environment.py": "LORAPLEX_URL, LORAPLEX_KEY, keys that a workload names",
    "loraplex/connection.py": "LORAPLEX_URL and LORAPLEX_KEY of the client commands",
}


@dataclass(frozen=True)
class Import:
    """One import statement: the top-level package, whether it runs when the module is imported."""

    package: str
    line: int
    at_import: bool


def imports_of(source: str) -> list[Import]:
    """The absolute imports of a module, `importlib.import_module("name")` among them."""
    return list(_walk(ast.parse(source), at_import=True))


def _walk(node: ast.AST, *, at_import: bool) -> Iterator[Import]:
    for package in _imported(node):
        yield Import(package, getattr(node, "lineno", 0), at_import)
    lazy: list[ast.AST] = []
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        lazy = [*node.body]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        lazy = [*ast.iter_child_nodes(node)]
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, at_import=at_import and child not in lazy)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name.partition(".")[0] for name in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module.partition(".")[0]]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return [first.value.partition(".")[0]]
    return []


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def reads_environment(source: str) -> list[int]:
    """The lines that reach for the process's environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {
            f"os.{name}" for name in names
        }:
            lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            lines += [node.lineno for name in node.names if name.name in names]
    return lines


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_import_only_along_the_arrows(package: str) -> None:
    files = _modules(package)
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{found.line} imports {found.package}"
        for file in files
        for found in imports_of(file.read_text())
        if found.package in PACKAGES - {package} - ARROWS[package]
    ]
    assert wrong == []


def test_the_face_imports_the_others_only_inside_functions() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{found.line} imports {found.package}"
        for file in _modules("loraplex")
        for found in imports_of(file.read_text())
        if found.at_import and found.package in PACKAGES - {"loraplex"}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_heavy_libraries_are_imported_only_inside_functions(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{found.line} imports {found.package}"
        for file in _modules(package)
        for found in imports_of(file.read_text())
        if found.at_import and found.package in HEAVY
    ]
    assert wrong == []


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_importing_every_module_loads_no_heavy_library(package: str) -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in _modules(package)
        # Those two run when they are imported.
        if file.stem != "__main__" and "migrations" not in file.parts
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_the_command_starts_without_loading_what_it_may_not_need() -> None:
    script = f"import sys, loraplex.cli\nprint(sorted({PACKAGES!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.strip() == "['loraplex']", result.stderr


def test_the_environment_is_read_only_where_it_may_be() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}"
        for package in sorted(PACKAGES)
        for file in _modules(package)
        for line in reads_environment(file.read_text())
        if file.relative_to(ROOT).as_posix() not in READS_ENVIRONMENT
    ]
    assert wrong == []


def test_every_module_and_package_says_its_purpose_first() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for package in sorted(PACKAGES)
        for file in _modules(package)
        if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import gateway.app
from training import data as d
if TYPE_CHECKING:
    import torch
class Plain:
    import loadtest
def lazy():
    from vllm import LLM
    importlib.import_module("trl.trainer")
from . import own
"""
    found = {(one.package, one.at_import) for one in imports_of(source)}
    assert found == {
        ("gateway", True),
        ("training", True),
        ("torch", False),
        ("loadtest", True),
        ("vllm", False),
        ("trl", False),
    }


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import os\nos.environ['A']", [2]),
        ("import os\nos.getenv('A')", [2]),
        ("from os import environ", [1]),
        ("import os\nos.path.join('a', 'b')\nenviron = {}", []),
    ],
)
def test_reads_of_the_environment_are_found(source: str, lines: list[int]) -> None:
    assert reads_environment(source) == lines
