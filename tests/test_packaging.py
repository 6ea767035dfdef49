"""The package as it is installed: what the wheel holds, what it starts, and what it needs."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_string
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mothr.benchmark import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
POINTS = {"console_scripts": PROJECT["project"]["scripts"], **PROJECT["project"]["entry-points"]}


INTERFACE = Path(FOLDERS["mothr"])
"""The folder that is installed as ``mothr`` itself; it lies inside the folder of ``mothr.benchmark``."""


def source_of(package):
    """Returns the folder that holds a package: that of its longest mapped prefix, and the rest of its name below it."""
    prefix = max((name for name in FOLDERS if package == name or package.startswith(f"{name}.")), key=len)
    return ROOT / FOLDERS[prefix] / Path(*package.removeprefix(prefix).split("."))


def files_of(package, folder, pattern):
    """Returns the files below a mapped folder that belong to its package, not to the interface inside it."""
    paths = (ROOT / folder).rglob(pattern)
    return [path for path in paths if package == "mothr" or not path.is_relative_to(ROOT / INTERFACE)]


def required(*extras):
    """Returns the requirements of the package and of ``extras``, by canonical name."""
    lists = [
        PROJECT["project"]["dependencies"],
        *(PROJECT["project"]["optional-dependencies"][extra] for extra in extras),
    ]
    found = [Requirement(text) for texts in lists for text in texts]
    return {canonicalize_name(one.name): one for one in found}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing old in a build folder gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in {Path(folder).parts[0] for folder in FOLDERS.values()}:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.glob("*.whl")
    with zipfile.ZipFile(path) as held:
        return {name: held.read(name) for name in held.namelist()}


def meta(wheel, name):
    [content] = [content for path, content in wheel.items() if path.endswith(f".dist-info/{name}")]
    return content.decode()


def test_every_folder_of_code_is_a_listed_package():
    found = {
        ".".join((package, *path.parent.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for path in files_of(package, folder, "*.py")
    }
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(found)
    assert [package for package in listed if not (source_of(package) / "__init__.py").is_file()] == []


def test_the_wheel_holds_mothr_alone_and_all_of_it(wheel):
    assert {name.split("/")[0] for name in wheel} == {"mothr", f"mothr-{__version__}.dist-info"}
    for package, folder in FOLDERS.items():
        for pattern in ("*.py", "*.j2", "*.js", "*.css", "*.toml", "*.json"):
            for path in files_of(package, folder, pattern):
                name = "/".join((*package.split("."), *path.relative_to(ROOT / folder).parts))
                assert wheel[name] == path.read_bytes()
    assert any(name.startswith("mothr/generators/recipes/") and name.endswith(".toml") for name in wheel)
    assert any(name.startswith("mothr/benchmark/") and name.endswith(".html.j2") for name in wheel)
    assert "Apache License" in meta(wheel, "licenses/LICENSE")


def test_the_public_interface_can_be_imported_from_the_wheel_and_loads_no_torch(wheel, tmp_path):
    for name, content in wheel.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys, mothr; assert 'torch' not in sys.modules; "
        "values = [getattr(mothr, name) for name in mothr.__all__]; print(mothr.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "mothr" / "__init__.py")), done.stderr


def test_the_version_is_the_same_everywhere(wheel):
    said = message_from_string(meta(wheel, "METADATA"))
    assert said["Version"] == __version__ == version("mothr")
    assert said["Requires-Python"] == ">=3.11"
    cited = re.search(r"^version: *[\"']?([^\"'\s]+)", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert cited is None or cited[1] == __version__


def test_the_wheel_declares_every_entry_point_and_each_can_be_loaded(wheel):
    points = ConfigParser(delimiters="=")
    points.optionxform = str
    points.read_string(meta(wheel, "entry_points.txt"))
    assert {group: dict(points[group]) for group in points.sections()} == POINTS
    for group, named in POINTS.items():
        for name, target in named.items():
            module, _, attribute = target.partition(":")
            assert hasattr(importlib.import_module(module), attribute), f"{group}: {name} = {target}"


def test_the_names_that_must_be_on_the_board_are_registered():
    wanted = {
        "mother-v1", "mother-v2", "mother-lora", "null-random-tree", "null-star", "null-mst-random-root",
        "null-mother-random-direction", "null-metadata", "oracle-star", "oracle-mst-root", "oracle-direction", "linea",
    }  # fmt: skip
    assert wanted <= set(POINTS["mothr.methods"])


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("benchmark", ()), ("baselines", ("generate",)), ("generators", ("generate", "vision", "real", "fetch"))],
)
def test_what_the_code_imports_is_declared(folder, extras):
    declared, known = set(required(*extras)), packages_distributions()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mothr"}:
                sources = {canonicalize_name(one) for one in known.get(name, [name])}
                assert sources & declared, f"{path}:{node.lineno}: {name} is no dependency of pyproject.toml"


def test_constraints_pin_every_direct_dependency_inside_its_range():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            [pin] = requirement.specifier
            assert pin.operator == "==", text
            pins[canonicalize_name(requirement.name)] = pin.version
    assert pins["torch"] == "2.13.0"
    for name, requirement in required("generate", "test").items():
        assert name in pins, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pins[name]), f"{requirement} excludes the pinned {pins[name]}"
