"""Isolation: what a method's process can reach, how it is stopped, and what comes back from it."""

import json
import math
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import psutil
import pytest

from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess
from mothr.benchmark.run.isolation import Isolated, Limits, sandbox
from mothr.benchmark.run.isolation.executor import code_folders
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import is_own
from mothr.benchmark.score import metrics

needs_lock = pytest.mark.skipif(sandbox.version() == 0, reason="this system cannot shut a process off from files")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, tiny):
    """A folder with the cheats' code and, beside it, a data set with its truth: as people keep them."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copy(Path(__file__).with_name("cheats.py"), home)
    shutil.copytree(tiny, home / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        patch.setenv("SECRET_TOKEN", "1")
        yield home


@pytest.fixture(scope="module")
def executor(lab):
    """One executor for all tests, whose guard process is started once."""
    with Isolated(Limits(seconds=60)) as started:
        yield started


def run_isolated(executor, folder, *requests):
    """Returns the records of some runs in processes of their own."""
    return [record for _, record in execute(requests, folder, open_truth(folder), executor)]


@pytest.fixture
def attempt(lab, executor):
    """A function that runs a cheat with seed 5 and returns its record."""

    def call(name, setting="open", limits=None, **settings):
        executor.limits = limits or Limits(seconds=60)
        [record] = run_isolated(executor, lab / "data", RunRequest(f"cheats:{name}", settings, setting, seed=5))
        return record

    return call


def refused(record):
    """Whether a cheat got no more than the star that it falls back to."""
    assert record.status == "ok", record.error
    assert record.metrics["edge_f1"] < 0.4


@needs_lock
def test_the_truth_cannot_be_read(attempt, lab):
    record = attempt("Reads", path=str(lab / "data" / "truth.json"))
    refused(record)
    assert record.isolation == "sandbox"


@needs_lock
def test_nothing_is_written_but_its_own_folder(attempt, lab):
    cached = Path(os.environ["MOTHR_CACHE"]) / "poison"
    refused(
        attempt(
            "Writes", paths=",".join(map(str, (lab / "data" / "truth.json", lab / "cheats.py", lab / "new", cached)))
        )
    )
    assert not cached.exists()


@pytest.fixture(scope="module")
def betrayed(lab):
    """A data set whose truth is a chain in the order of ids, of listing, and of making the files."""
    home = lab / "betrayed"
    shutil.copytree(lab / "data", home, ignore=lambda folder, names: names if folder.endswith("models") else [])
    truth = json.loads((home / "truth.json").read_text())
    above = []
    for node in sorted(truth["nodes"]):
        shutil.copytree(lab / "data" / "models" / node, home / "models" / node)
        truth["nodes"][node] |= {
            "parents": above[-1:],
            "tree": 0,
            "depth": len(above),
            "relation": "finetune" if above else None,
        }
        above.append(node)
    (home / "truth.json").write_text(json.dumps(truth))
    return home


@pytest.mark.parametrize("name", ["by_id", "by_listing", "by_number", "by_time"])
def test_names_times_numbers_and_order_of_files_tell_nothing(name, executor, betrayed):
    # One call copies the models once, in a random order. Three calls give three orders that are independent.
    records = [run_isolated(executor, betrayed, RunRequest(f"cheats:{name}", seed=seed))[0] for seed in range(3)]
    assert [record.status for record in records] == ["ok"] * 3
    assert sum(record.metrics["edge_f1"] for record in records) / 3 < 0.3  # a random order has 1 of 14


@needs_lock
@pytest.mark.parametrize("name", ["prints", "kills", "looks_around", "stays", "by_size"])
def test_a_method_reaches_nothing_around_it(name, attempt):
    refused(attempt(name))
    guards = [
        child for child in psutil.Process().children() if "mothr.benchmark.run.isolation.guard" in child.cmdline()
    ]
    assert guards
    assert not [process for guard in guards for process in guard.children(recursive=True)], "it still runs"


@needs_lock
def test_there_is_no_network(attempt, monkeypatch):
    with socket.create_server(("127.0.0.1", 9)) if os.geteuid() == 0 else socket.create_server(("127.0.0.1", 0)):
        refused(attempt("calls_home"))


@pytest.mark.parametrize(
    ("name", "limits", "status", "message"),
    [
        ("hangs", Limits(seconds=4), "timeout", "stopped after 4 s; .* --seconds"),
        ("eats", Limits(memory=0.8), "failed", "held more than 0.8 GiB; .* --memory-limit"),
        ("bombs", Limits(memory=1000), "failed", "too many processes"),
        ("leaves", None, "failed", "ended with status 0 before it returned a prediction"),
        ("crashes", None, "failed", "ended with status -11 before it returned a prediction"),
        ("unsure", None, "failed", r"is nan; it must be in \[0, 1\]"),
        ("partial", None, "failed", "leaves out 1 model"),
        ("extra", None, "failed", "adds 1 model"),
        ("cycles", None, "failed", "cycle"),
        ("floods", None, "failed", "digits"),
    ],
)
def test_a_run_without_a_prediction_is_a_record_that_counts(name, limits, status, message, attempt):
    record = attempt(name, limits=limits)
    assert (record.status, record.parents, record.per_tree) == (status, None, [])
    assert re.search(message, record.error), record.error
    assert attempt("by_id").status == "ok"  # and the next one runs


def test_a_method_that_needs_the_truth_is_given_it_and_the_record_says_so(attempt):
    record = attempt("Asks")
    assert (record.metrics["edge_f1"], record.given) == (1.0, ["truth"])


def test_a_methods_module_is_never_imported_here(attempt, lab):
    record = attempt("by_id", "known-trees")
    assert metrics.METRICS
    assert not math.isnan(record.metrics["edge_f1"])
    assert "cheats" not in sys.modules


def test_unknown_names_and_fields_are_errors_before_anything_runs(attempt):
    with pytest.raises(MothrError, match="cannot be imported"):
        attempt("nobody")
    with pytest.raises(MothrError, match="unknown field of cheats:Reads 'paht'; did you mean path"):
        attempt("Reads", paht="x")


@pytest.mark.parametrize("method", ["linea", "null-random-tree", "null-metadata", "oracle-direction"])
def test_a_record_is_the_same_as_without_isolation(method, executor, lab):
    request = RunRequest(method, seed=5)
    [(_, in_process)] = execute([request], lab / "data", open_truth(lab / "data"), InProcess())
    [isolated] = run_isolated(executor, lab / "data", request)
    same = set(RunRecord.model_fields) - {"seconds", "peak_bytes", "isolation", "date"}
    assert {name: getattr(isolated, name) for name in same} == {name: getattr(in_process, name) for name in same}
    assert 1 << 26 < isolated.peak_bytes < 1 << 32


def test_own_methods_keep_their_features_and_others_do_not(executor, lab):
    cache = Path(os.environ["MOTHR_CACHE"])
    [record] = run_isolated(executor, lab / "data", RunRequest("cheats:computes"))
    assert record.status == "ok"
    assert not list(cache.glob("features/*"))
    run_isolated(executor, lab / "data", RunRequest("linea"))
    assert list(cache.glob("features/*"))
    assert is_own("linea")
    assert not is_own("cheats:by_id")


def test_a_message_that_is_too_large_is_not_read(attempt, monkeypatch):
    monkeypatch.setattr("mothr.benchmark.run.isolation.channel.LARGEST_MESSAGE", 500)
    record = attempt("by_id")
    assert (record.status, record.error) == ("failed", "its message was no JSON, or too large")


def test_warnings_and_errors_name_the_models_by_the_ids_of_the_user(attempt, lab):
    first = open_models(lab / "data").ids[0]
    with pytest.warns(MothrWarning, match=f"{first} is odd"):
        assert attempt("warns").status == "ok"
    assert f"ValueError: {lab / 'data' / 'models' / first} is odd" in attempt("fails").error


def test_data_among_code_is_refused(executor, lab):
    package = lab / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(lab / "data", package / "data")
    try:
        with pytest.raises(MothrError, match="move the data set"):
            run_isolated(executor, package / "data", RunRequest("linea"))
    finally:
        shutil.rmtree(package)


def test_code_can_be_read_and_what_lies_beside_it_cannot(lab):
    readable, listed = code_folders("cheats:by_id")
    assert lab in listed
    assert lab / "cheats.py" in readable
    assert not any((lab / "data").is_relative_to(folder) for folder in readable)


def test_the_guard_ends_with_the_executor(lab):
    before = set(psutil.Process().children())

    def guards():
        started = set(psutil.Process().children()) - before
        return [process for process in started if "mothr.benchmark.run.isolation.guard" in " ".join(process.cmdline())]

    with Isolated() as executor:
        run_isolated(executor, lab / "data", RunRequest("cheats:by_id"))
        [guard] = guards()
        run_isolated(executor, lab / "data", RunRequest("cheats:by_id"))
        assert guards() == [guard]  # it serves all calls within the block
    assert not guard.is_running()


def test_a_record_names_its_isolation(attempt, tmp_path):
    path = store.write(attempt("by_id"), tmp_path)
    assert json.loads(path.read_text())["isolation"] == ("sandbox" if sandbox.version() else "process")
    assert store.read_runs(path.parent)[0].isolation
