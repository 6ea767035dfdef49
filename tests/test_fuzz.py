"""A short run of tests/performance/fuzz_inputs.py, the same on every machine."""

import runpy
from pathlib import Path

import pytest

FUZZ = runpy.run_path(str(Path(__file__).with_name("performance") / "fuzz_inputs.py"))


@pytest.mark.parametrize("kind", FUZZ["KINDS"])
def test_broken_files_are_refused_by_a_named_error_and_nothing_is_written(kind):
    ended = FUZZ["fuzz"](kind, 200, derandomize=True)
    assert ended["read"] >= 10
    assert ended["refused"] >= 10
