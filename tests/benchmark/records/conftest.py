"""A small record, from which tests make others."""

import pytest

from mothr.benchmark.records.record import RunRecord

FIELDS = {
    "split": "tiny",
    "split_version": 1,
    "manifest_sha256": "0" * 64,
    "setting": "known-trees",
    "method": "null-star",
    "method_version": "1",
    "kind": "null",
    "parameters": {"weight": 0.3, "layers": ("query", "key")},
    "seed": 0,
    "given": ["trees"],
    "status": "ok",
    "parents": {"a": [], "b": ["a"]},
    "metrics": {"edge_f1": 1.0, "direction_auroc": None},
    "per_tree": [{"tree": 0, "edge_f1": 1.0, "direction_auroc": None}],
    "device": "cpu",
    "mothr_version": "0.1.0",
    "commit": None,
    "dirty": None,
    "packages": {"python": "3.12.0"},
    "date": "2026-01-31T12:00:00Z",
}
FAILED = {
    "status": "failed",
    "error": "RuntimeError: no convergence",
    "parents": None,
    "metrics": {},
    "per_tree": [],
}


@pytest.fixture(scope="session")
def record():
    """Makes a record of a run that is ok, with some fields changed."""
    return lambda **changes: RunRecord(**FIELDS | changes)


@pytest.fixture(scope="session")
def failed():
    """Makes a record of a run that failed, with some fields changed."""
    return lambda **changes: RunRecord(**FIELDS | FAILED | changes)
