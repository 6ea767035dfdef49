import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.storage import canonical_json

RUNS = Path("tiny-v1", "runs.jsonl")


def lines(folder):
    return (folder / RUNS).read_text().splitlines()


def edited(folder, number, **changes):
    """Changes fields of one line, counted from 1."""
    text = lines(folder)
    text[number - 1] = canonical_json(json.loads(text[number - 1]) | changes)
    (folder / RUNS).write_text("\n".join(text) + "\n")


def single_file(run, folder):
    """Writes the JSON file of its own that a record was in schema version 1; returns its path."""
    value = run.model_copy(update={"schema_version": 2}).to_json() | {"schema_version": 1, "told": run.given}
    del value["given"], value["kind"]
    path = folder / "tiny-v1" / f"{run.run_id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
    return path


# --- the file ---


def test_a_record_is_one_canonical_line_with_its_id(record, tmp_path):
    path = store.write(record(), tmp_path)
    assert path == tmp_path / RUNS
    assert path.read_text() == canonical_json(record().to_json() | {"id": record().run_id}) + "\n"
    assert store.read_runs(path.parent) == [record()]


def test_lines_are_sorted_by_identity_whatever_the_order_of_writing(record, failed, tmp_path):
    runs = [record(seed=seed, method=method) for method in ("a", "b") for seed in (0, 2, 10)] + [failed(method="c")]
    store.write(runs, tmp_path / "at-once")
    for run in reversed(runs):
        store.write(run, tmp_path / "one-by-one")
    assert lines(tmp_path / "at-once") == lines(tmp_path / "one-by-one")
    assert store.read_runs(tmp_path / "at-once" / "tiny-v1") == runs


def test_a_new_method_adds_lines_and_changes_none(record, tmp_path):
    store.write([record(method="a"), record(method="c")], tmp_path)
    before = lines(tmp_path)
    store.write([record(method="b", seed=seed) for seed in range(2)], tmp_path)
    after = lines(tmp_path)
    assert [after[0], after[3]] == before
    assert len(after) == 4


def test_a_record_replaces_the_one_with_its_identity(record, tmp_path):
    store.write([record(), record(seed=1)], tmp_path)
    store.write(record(seconds=9.0), tmp_path)
    assert [run.seconds for run in store.read_all(tmp_path)] == [9.0, None]


def test_records_can_be_removed(record, tmp_path):
    store.write([record(), record(seed=1)], tmp_path)
    store.remove([record(), record(seed=7), record(split="other")], tmp_path)
    assert store.read_all(tmp_path) == [record(seed=1)]
    store.remove([record(seed=1)], tmp_path)
    assert store.read_all(tmp_path) == []


def test_records_of_different_splits_are_not_written_in_one_call(record, tmp_path):
    with pytest.raises(ValueError, match="too many values"):
        store.write([record(), record(split="other")], tmp_path)


def test_a_lone_line_of_another_writer_is_kept_byte_for_byte(record, tmp_path):
    path = store.write(record(), tmp_path)
    spaced = json.dumps(json.loads(path.read_text()), sort_keys=True)
    path.write_text(f"\n{spaced}")  # neither canonical nor ended
    store.write(record(seed=1), tmp_path)
    assert lines(tmp_path)[0] == spaced
    assert store.read_all(tmp_path) == [record(), record(seed=1)]


# --- faults ---


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": 5}, r"its id is 'null-star-[0-9a-f]{8}', but .* make 'null-star-[0-9a-f]{8}'; undo the edit"),
        ({"method": "linea"}, "make 'linea-"),
        ({"id": None}, "its id is None"),
        ({"seed": "1"}, "seed: .*integer"),
        ({"metrcs": {}}, "unknown field 'metrcs'; did you mean metrics"),
        ({"schema_version": 7}, "schema_version is 7"),
    ],
)
def test_an_edited_line_is_refused_by_file_line_and_remedy(record, tmp_path, changes, expected):
    store.write([record(), record(seed=1)], tmp_path)
    edited(tmp_path, 2, **changes)
    with pytest.raises(MothrError, match=rf"tiny-v1.runs\.jsonl, line 2: .*{expected}"):
        store.read_all(tmp_path)


@pytest.mark.parametrize("write", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("text", ['{"seed": 1, "spl', "<<<<<<< HEAD", "[1]", '{"seed":0,"seed":1}', '{"a":NaN}'])
def test_a_line_that_is_no_json_object_is_refused_and_the_file_kept(record, tmp_path, text, write):
    path = store.write(record(), tmp_path)
    spoiled = path.read_text() + text
    path.write_text(spoiled)
    with pytest.raises(MothrError, match=r"runs\.jsonl, line 2: .*(restore|delete)"):
        store.write(record(seed=3), tmp_path) if write else store.read_all(tmp_path)
    assert path.read_text() == spoiled
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["runs.jsonl"]


def test_a_line_without_a_field_of_the_identity_is_refused_when_others_are_written(record, tmp_path):
    path = store.write(record(), tmp_path)
    path.write_text('{"seed":0}\n')
    with pytest.raises(MothrError, match=r"runs\.jsonl, line 1: field 'split' is missing; restore"):
        store.write(record(seed=1), tmp_path)


def test_a_line_whose_parameters_cannot_be_compared_is_refused_when_others_are_written(record, tmp_path):
    path = store.write(record(), tmp_path)
    path.write_text(path.read_text().replace("0.3", "NaN"))
    with pytest.raises(MothrError, match=r"runs\.jsonl, line 1: parameters: .*; restore"):
        store.write(record(seed=1), tmp_path)


def test_bytes_that_are_no_text_are_refused(record, tmp_path):
    path = store.write(record(), tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MothrError, match=r"runs\.jsonl: not UTF-8"):
        store.read_all(tmp_path)


def test_a_run_that_is_there_twice_is_refused_by_both_lines(record, tmp_path):
    path = store.write([record(), record(seed=1)], tmp_path)
    first = lines(tmp_path)[0]
    path.write_text("\n".join([*lines(tmp_path), first]) + "\n")
    spoiled = path.read_text()
    for action in (lambda: store.read_all(tmp_path), lambda: store.write(record(seed=2), tmp_path)):
        with pytest.raises(MothrError, match=r"runs\.jsonl, line 3: is the same run as line 1; delete one"):
            action()
    assert path.read_text() == spoiled


def test_a_folder_of_another_split_is_refused(record, tmp_path):
    store.write(record(), tmp_path)
    (tmp_path / "tiny-v1").rename(tmp_path / "tiny-v2")
    with pytest.raises(MothrError, match=r"tiny-v2.runs\.jsonl, line 1: .*belongs into the folder tiny-v1; move it"):
        store.read_all(tmp_path)
    with pytest.raises(MothrError, match=r"absent: no such folder; name"):
        store.read_all(tmp_path / "absent")


def test_a_folder_that_cannot_be_written_is_named(record, tmp_path):
    (tmp_path / "tiny-v1").write_text("a file where the folder is to be")
    with pytest.raises(MothrError, match=r"tiny-v1.*cannot write"):
        store.write(record(), tmp_path)


# --- folders ---


def test_read_all_finds_records_and_passes_over_the_rest(record, failed, tmp_path):
    runs = [record(), record(seed=1), record(split="other", split_version=3), failed(seed=2)]
    for run in runs:
        store.write(run, tmp_path)
    (tmp_path / "tiny-v1" / "manifest.json").write_text("{}")
    (tmp_path / "tiny-v1" / "truth.json").write_text("{}")
    for name in ("submissions", ".git"):
        (tmp_path / name / "mine").mkdir(parents=True)
        (tmp_path / name / "mine" / "prediction.json").write_text("not a record")
        (tmp_path / name / "mine" / "runs.jsonl").write_text("not a record")
    read = store.read_all(tmp_path)
    assert {run.run_id for run in read} == {run.run_id for run in runs}
    assert len(read) == 4
    assert len(store.read_all(tmp_path / "tiny-v1")) == 3


# --- files of schema version 1 ---


def test_old_files_and_lines_may_lie_in_one_folder(record, failed, tmp_path):
    single_file(record(), tmp_path)
    single_file(failed(seed=1), tmp_path)
    assert store.read_all(tmp_path) == [record(schema_version=2), failed(schema_version=2, seed=1)]
    store.write(record(seed=2), tmp_path)
    assert store.read_all(tmp_path) == [
        record(schema_version=2),
        failed(schema_version=2, seed=1),
        record(seed=2),
    ]


def test_a_line_replaces_the_old_file_of_its_run(record, tmp_path):
    path = single_file(record(), tmp_path)
    content = path.read_bytes()
    store.write(record(seconds=9.0), tmp_path)
    assert not path.exists()
    path.write_bytes(content)  # as if the writer had been stopped just before it removed the file
    assert store.read_all(tmp_path) == [record(seconds=9.0)]
    store.remove([record()], tmp_path)
    assert store.read_all(tmp_path) == []


def test_an_old_file_in_the_wrong_place_is_refused(record, tmp_path):
    path = single_file(record(), tmp_path)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 5'))
    with pytest.raises(MothrError, match=r"tiny-v1.null-star-.*json: .*null-star-[0-9a-f]{8}\.json; rename it"):
        store.read_all(tmp_path)
    path.rename(path.with_name(f"{record(seed=5).run_id}.json"))
    assert store.read_all(tmp_path) == [record(schema_version=2, seed=5)]
    path.parent.rename(tmp_path / "tiny-v2")
    with pytest.raises(MothrError, match="belongs into the folder tiny-v1"):
        store.read_all(tmp_path)


def test_a_method_is_run_into_a_folder_of_old_files(mothr, tiny, tmp_path):
    words = ("run", "null-random-tree", tiny, "--setting", "open", "--in-process", "--out", tmp_path)
    assert mothr(*words).code == 0
    [run] = store.read_all(tmp_path)
    (tmp_path / "tiny-v1" / "runs.jsonl").unlink()
    single_file(run, tmp_path)
    assert mothr(*words, "--seeds", 2).code == 0
    assert [run.seed for run in store.read_all(tmp_path)] == [0, 1]
    assert len(lines(tmp_path)) == 2
    assert list((tmp_path / "tiny-v1").glob("null-*.json")) == []


# --- one prediction ---


def test_a_prediction_is_read_from_a_line_by_its_id(record, failed, tmp_path):
    path = store.write(record(), tmp_path)
    assert store.read_prediction(path) == record().prediction()
    store.write([record(seed=1, parents={"a": ["b"], "b": []}), failed(seed=2)], tmp_path)
    for run in (record(), record(seed=1)):
        graph = store.read_prediction(Path(f"{path}#{run.run_id}")).graph
        assert dict(graph.parents) == ({"a": (), "b": ("a",)} if run.seed == 0 else {"a": ("b",), "b": ()})
    with pytest.raises(MothrError, match=r"runs\.jsonl: holds 3 runs; name one of them, as .*runs\.jsonl#null-star-"):
        store.read_prediction(path)
    with pytest.raises(MothrError, match=r"runs\.jsonl: unknown run 'null-star-0'; did you mean null-star-"):
        store.read_prediction(Path(f"{path}#null-star-0"))
    with pytest.raises(MothrError, match="no convergence"):
        store.read_prediction(Path(f"{path}#{failed(seed=2).run_id}"))
    with pytest.raises(MothrError, match="unknown run"):
        store.read_prediction(tmp_path / "absent" / "runs.jsonl")


def test_a_prediction_is_read_from_an_old_record_and_from_a_prediction_file(record, tmp_path):
    assert store.read_prediction(single_file(record(), tmp_path)) == record().prediction()
    path = tmp_path / "prediction.json"
    path.write_text(json.dumps(record().prediction().to_json()))
    assert store.read_prediction(path) == record().prediction()


# --- many writers ---


def _write_alone(folder, value, seeds):
    run = RunRecord.from_json(value, "here")
    for seed in seeds:
        store.write(run.model_copy(update={"seed": seed}), folder)


def test_two_writers_at_once_lose_nothing(record, tmp_path):
    context = multiprocessing.get_context("spawn")
    halves = (range(40), range(40, 80))
    writers = [context.Process(target=_write_alone, args=(tmp_path, record().to_json(), half)) for half in halves]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [run.seed for run in store.read_all(tmp_path)] == list(range(80))
    assert [path.name for path in (tmp_path / "tiny-v1").iterdir()] == ["runs.jsonl"]


def test_the_lock_of_a_killed_writer_is_in_nobody_s_way(record, tmp_path):
    code = f"""
    import time
    from pathlib import Path
    from mothr.benchmark.records import store
    with store._locked(Path({str(tmp_path / "tiny-v1")!r})):
        print("locked", flush=True)
        time.sleep(60)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "locked\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert (tmp_path / "tiny-v1" / store.LOCK).exists()
    store.write(record(), tmp_path)
    assert [path.name for path in (tmp_path / "tiny-v1").iterdir()] == ["runs.jsonl"]


# --- one by one ---


def test_a_writer_rewrites_the_file_seldom_and_loses_nothing(record, tmp_path, monkeypatch):
    rewritten = []
    write = store.write

    def slow(records, folder):
        time.sleep(0.05)
        rewritten.append(len(records))
        return write(records, folder)

    monkeypatch.setattr(store, "write", slow)
    with store.RunWriter(tmp_path) as writer:
        for seed in range(50):
            assert writer.add(record(seed=seed)) == tmp_path / RUNS
        assert [run.seed for run in store.read_all(tmp_path)] == [0]  # at once, since nothing was written before
    assert rewritten == [1, 49]
    assert len(store.read_all(tmp_path)) == 50


@pytest.fixture
def _interruptible():
    """SIGINT raises KeyboardInterrupt. A shell that starts the tests in the background makes them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_a_writer_that_is_interrupted_keeps_what_was_made(record, tmp_path):
    def interrupted():
        with store.RunWriter(tmp_path) as writer:
            for run in (record(), record(seed=1), record(split="other")):
                writer.add(run)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(run.split, run.seed) for run in store.read_all(tmp_path)] == [("other", 0), ("tiny", 0), ("tiny", 1)]
