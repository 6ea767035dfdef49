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
from mothr.benchmark.run import sandbox
from mothr.benchmark.run.evaluate import run
from mothr.benchmark.run.isolation import Limits, Runner, code_folders, offered
from mothr.benchmark.run.registry import find_method, is_own
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
def runner(lab):
    with Runner(Limits(seconds=60)) as found:
        yield found


@pytest.fixture(scope="module")
def seen(lab):
    with offered(lab / "data", open_models(lab / "data"), seed=5) as given:
        yield given


@pytest.fixture
def attempt(lab, runner, seen):
    """A function that runs a cheat and returns its record."""

    def call(name, setting="open", limits=None, **settings):
        runner.limits = limits or Limits(seconds=60)
        return runner.run(f"cheats:{name}", settings, seen, setting, open_truth(lab / "data"))

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
    shutil.copytree(lab / "data", home, ignore=lambda place, names: names if place.endswith("models") else [])
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
def test_what_files_are_called_and_when_and_where_they_were_made_says_nothing(name, runner, betrayed):
    models, truth = open_models(betrayed, check=False), open_truth(betrayed)
    scores = []
    for seed in range(3):
        with offered(betrayed, models, seed) as given:
            record = runner.run(f"cheats:{name}", {}, given, "open", truth)
        assert record.status == "ok", record.error
        scores.append(record.metrics["edge_f1"])
    assert sum(scores) / 3 < 0.3  # a random order has 1 of 14


def test_copies_are_made_in_the_order_of_ids_that_are_drawn_anew(lab):
    models = open_models(lab / "data")
    ids = []
    for seed in (0, 1):
        with offered(lab / "data", models, seed) as given:
            names = sorted(path.name for path in given.folder.iterdir())
            assert names == sorted(given.names.values())
            ids.append(set(names))
            numbers = [(given.folder / name).stat().st_ctime_ns for name in names]
            assert numbers == sorted(numbers)
    assert not ids[0] & ids[1]
    assert not ids[0] & set(models.ids)
    assert not given.folder.exists()


@needs_lock
@pytest.mark.parametrize("name", ["prints", "kills", "looks_around", "stays", "by_size"])
def test_a_method_reaches_nothing_around_it(name, attempt):
    refused(attempt(name))
    assert not [
        one for guard in psutil.Process().children() for one in guard.children(recursive=True)
    ]  # and nothing of it runs on


@needs_lock
def test_there_is_no_network(attempt, monkeypatch):
    with socket.create_server(("127.0.0.1", 9)) if os.geteuid() == 0 else socket.create_server(("127.0.0.1", 0)):
        refused(attempt("calls_home"))


@pytest.mark.parametrize(
    ("name", "limits", "status", "said"),
    [
        ("hangs", Limits(seconds=4), "timeout", "stopped after 4 s; .* --seconds"),
        ("eats", Limits(memory=0.8), "failed", "held more than 0.8 GiB; .* --memory-limit"),
        ("bombs", Limits(memory=1000), "failed", "too many processes"),
        ("leaves", None, "failed", "ended with status 0 before it answered"),
        ("crashes", None, "failed", "ended with status -11 before it answered"),
        ("unsure", None, "failed", r"is nan; it must be in \[0, 1\]"),
        ("partial", None, "failed", "leaves out 1 model"),
        ("extra", None, "failed", "adds 1 model"),
        ("cycles", None, "failed", "cycle"),
        ("floods", None, "failed", "digits"),
    ],
)
def test_what_is_no_answer_is_a_row_that_counts(name, limits, status, said, attempt):
    record = attempt(name, limits=limits)
    assert (record.status, record.parents, record.per_tree) == (status, None, [])
    assert re.search(said, record.error), record.error
    assert attempt("by_id").status == "ok"  # and the next one runs


def test_a_method_that_asks_for_the_truth_is_told_it_and_recorded_so(attempt):
    record = attempt("Asks")
    assert (record.metrics["edge_f1"], record.given) == (1.0, ["truth"])


def test_a_methods_module_is_never_imported_here(attempt, lab):
    record = attempt("by_id", "known-trees")
    assert metrics.METRICS
    assert not math.isnan(record.metrics["edge_f1"])
    assert "cheats" not in sys.modules


def test_names_and_fields_that_do_not_exist_are_said_before_anything_runs(attempt):
    with pytest.raises(MothrError, match="cannot be imported"):
        attempt("nobody")
    with pytest.raises(MothrError, match="unknown field of cheats:Reads 'paht'; did you mean path"):
        attempt("Reads", paht="x")


@pytest.mark.parametrize("method", ["linea", "null-random-tree", "null-metadata", "oracle-direction"])
def test_an_answer_is_the_same_as_without_isolation(method, runner, seen, lab):
    here = run(find_method(method), method, lab / "data", "open", seed=5)
    apart = runner.run(method, {}, seen, "open", open_truth(lab / "data"))
    same = set(RunRecord.model_fields) - {"seconds", "peak_bytes", "isolation", "date"}
    assert {name: getattr(apart, name) for name in same} == {name: getattr(here, name) for name in same}
    assert 1 << 26 < apart.peak_bytes < 1 << 32


def test_own_methods_keep_their_features_and_others_do_not(runner, seen, lab):
    cache = Path(os.environ["MOTHR_CACHE"])
    runner.run("cheats:computes", {}, seen, "open", open_truth(lab / "data"))
    assert not list(cache.glob("features/*"))
    runner.run("linea", {}, seen, "open", open_truth(lab / "data"))
    assert list(cache.glob("features/*"))
    assert is_own("linea")
    assert not is_own("cheats:by_id")


def test_too_large_an_answer_is_not_read(attempt, monkeypatch):
    monkeypatch.setattr("mothr.benchmark.run.isolation.LARGEST_ANSWER", 500)
    record = attempt("by_id")
    assert (record.status, record.error) == ("failed", "its answer was no JSON, or too large")


def test_warnings_and_errors_call_the_models_as_the_user_does(attempt, lab):
    first = open_models(lab / "data").ids[0]
    with pytest.warns(MothrWarning, match=f"{first} is odd"):
        assert attempt("warns").status == "ok"
    assert f"ValueError: {lab / 'data' / 'models' / first} is odd" in attempt("fails").error


def test_data_among_code_is_refused(runner, lab):
    package = lab / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(lab / "data", package / "data")
    try:
        with (
            offered(package / "data", open_models(package / "data"), 0) as given,
            pytest.raises(MothrError, match="move the data set"),
        ):
            runner.run("linea", {}, given, "open", open_truth(package / "data"))
    finally:
        shutil.rmtree(package)


def test_code_can_be_read_and_what_lies_beside_it_cannot(lab):
    readable, listed = code_folders("cheats:by_id")
    assert lab in listed
    assert lab / "cheats.py" in readable
    assert not any((lab / "data").is_relative_to(place) for place in readable)


def test_the_guard_ends_with_the_harness(lab, seen):
    before = set(psutil.Process().children())
    found = Runner(Limits())
    found.run("cheats:by_id", {}, seen, "open", open_truth(lab / "data"))
    [guard] = [
        one
        for one in set(psutil.Process().children()) - before
        if "mothr.benchmark.run.guard" in " ".join(one.cmdline())
    ]
    found.__exit__()
    assert not guard.is_running()


def test_a_record_says_how_it_was_kept_apart(attempt, tmp_path):
    path = store.write(attempt("by_id"), tmp_path)
    assert json.loads(path.read_text())["isolation"] == ("sandbox" if sandbox.version() else "process")
    assert store.read_runs(path.parent)[0].isolation
