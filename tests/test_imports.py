"""Who may import whom: read from the source, and tried out where a heavy import could come in by another module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "generators", "baselines")
MAY_NOT = {
    "benchmark": ("mothr.generators", "mothr.baselines", "transformers", "diffusers", "peft", "torchvision"),
    "baselines": ("mothr.generators", "transformers", "diffusers", "peft", "torchvision"),
    "generators": ("mothr.baselines",),
}
WITHOUT_TORCH = (
    "errors", "storage", "graph", "method", "metrics", "statistics", "results", "drawing", "board", "leaderboard", "cli",
    "commands", "exports", "formats", "submission", "page", "pairs", "compare", "metrics_chance", "metrics_confidence",
)  # fmt: skip


def imported(path):
    """Returns the name of every module that ``path`` imports anywhere in it, and line by line where."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write mothr.<package>.<module>"
            found += [(node.module, node.lineno)] + [
                (f"{node.module}.{alias.name}", node.lineno) for alias in node.names
            ]
    return found


def inside(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_what_it_may_not(package):
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    wrong = [
        f"{path}:{line}: {name}" for path in paths for name, line in imported(path) if inside(name, MAY_NOT[package])
    ]
    assert wrong == []


def test_no_file_imports_a_package_by_its_bare_name():
    """From the repository's root ``import benchmark`` works, and makes a second copy of each class."""
    paths = [path for folder in (*PACKAGES, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    wrong = [f"{path}:{line}: {name}" for path in paths for name, line in imported(path) if inside(name, PACKAGES)]
    assert wrong == []


def test_what_reads_results_and_answers_help_never_loads_torch():
    names = [f"mothr.benchmark.{name}" for name in WITHOUT_TORCH] + ["mothr.generators.commands"]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
