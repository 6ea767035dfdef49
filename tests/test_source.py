"""What holds for the source as a whole: which modules load torch, and how long files and functions are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "generators", "baselines")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
WITHOUT_TORCH = ("board", "cli", "exchange", "records", "score")
"""Sub-packages of the benchmark that only read results or answer ``--help``."""
RUN_METHODS = ("submission_check", "submission_scores")
"""Modules in these that run methods, and so load torch."""


def test_what_reads_results_and_answers_help_never_loads_torch():
    names = ["mothr", "mothr.generators.commands"]
    for package in WITHOUT_TORCH:
        paths = sorted((ROOT / "benchmark" / package).glob("*.py"))
        names += [
            f"mothr.benchmark.{package}.{path.stem}" for path in paths if path.stem not in ("__init__", *RUN_METHODS)
        ]
    names += [
        f"mothr.benchmark.{path.stem}" for path in sorted((ROOT / "benchmark").glob("*.py")) if path.stem != "__init__"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


def test_every_sub_package_is_small_enough_to_be_seen_at_a_glance():
    for folder in {path.parent for path in FILES}:
        assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 11, folder
