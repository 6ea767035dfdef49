"""Record files of every schema version load for ever.

``stored/<k>/`` holds files of schema version k as they were written. A failed run is among them. The files are never
edited: their hashes are below. A field with a default may be added within a version. Any other change of the format
makes version k + 1: ``SCHEMA_VERSION`` becomes k + 1, and a reader turns a record of version k into one of version
k + 1: ``upgrade`` up to version 2, ``RunRecord.with_tree_labels`` from 2 to 3. Versions 3 and 4 differ in files alone.

New samples go into ``stored/<k + 1>/``; those of all earlier versions stay.
"""

import json
import shutil
from pathlib import Path

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import BY_POSITION, SCHEMA_VERSION, RunRecord, identity
from mothr.benchmark.storage import canonical_sha256, read_json, sha256_of

HOME = Path(__file__).with_name("stored")
HASHES = {
    "1/fingerprint-8848b483.json": "8eb5446d33eaad0ea08fbf5e858ae48d779e1873e02402fa059db9d8453a8648",
    "1/linea-3bb2bcdd.json": "a71d6b9946a59cf7b8ad8c04fced13bf7d10d351abf8ad2ec7563d1b54237063",
    "1/linea-5e21af27.json": "90172db487a8e90366ecd6450bfc2c14d1e3fd936592542c59c03c5eae212481",
    "1/null-star-c9104543.json": "f758bdabd50a246fa2ff901785cf8ff4e73db979dc38962d608c0c47cc1003e8",
    "2/tiny-hidden-v1/runs.jsonl": "c1a025fc6bf6f400b2658db422ede220ffa418f0df4cd6e54bb6b95aa21dd70d",
    "2/vit-missing-v1/runs.jsonl": "2d0c01e33281661885faf0adead72946db1956e8cb449f0dfe052645d3678ed5",
    "3/tiny-hidden-v1/runs.jsonl": "61236b63d71a85a9f8525238964d8d1dc76fcf1d02029d7d744e46f0d7265ecf",
    "3/vit-missing-v1/runs.jsonl": "02c3bae7c4661e2d8f938a5eff51ddf8a6cd5a054a81b73245b19fad43821da0",
    "4/tiny-hidden-v1/runs.jsonl": "2196a0354aa0848452c22420a4af1d779d3fea7b6f724d49fcca993ef4358695",
    "4/vit-missing-v1/runs.jsonl": "b4ef6503119957e428c78d56ed762fbf551860814c9209b4ccbe5620479f69f1",
}
"""File -> SHA-256 of its bytes."""
SINGLE_FILES = [name for name in HASHES if name.startswith("1/")]
FOLDERS = [HOME / name.rpartition("/")[0] for name in HASHES if name.endswith(store.RUNS)]
TRUTH = Path(__file__).parents[3] / "results" / "vit-missing-v1" / "truth.json"
"""The published truth of a split of the samples. The numbers of its trees are not their positions."""


def stored(name):
    return RunRecord.from_json(read_json(HOME / name), name)


def test_the_samples_are_unchanged():
    files = [path for path in HOME.rglob("*") if path.is_file()]
    assert {path.relative_to(HOME).as_posix(): sha256_of(path) for path in files} == HASHES


@pytest.mark.parametrize("name", SINGLE_FILES)
def test_a_record_of_version_1_keeps_its_identity_and_its_prediction(name, tmp_path):
    value, record = json.loads((HOME / name).read_text()), stored(name)
    assert f"{record.run_id}.json" == Path(name).name
    assert f"-{canonical_sha256(identity(record))[:8]}.json" in name
    assert (record.status, record.parents, record.metrics) == (value["status"], value["parents"], value["metrics"])
    assert record.given == value["told"]
    store.write(record, tmp_path)
    assert store.read_all(tmp_path) == [record]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_file_of_lines_is_written_again_byte_for_byte(folder, tmp_path):
    records = store.read_runs(folder)
    assert store.write(reversed(records), tmp_path).read_bytes() == (folder / store.RUNS).read_bytes()


def test_a_record_of_version_2_gets_the_tree_numbers_of_the_truth_beside_it(tmp_path):
    place = tmp_path / "vit-missing-v1"
    shutil.copytree(HOME / "2" / "vit-missing-v1", place)
    older = store.read_runs(place)
    assert {record.schema_version for record in older} == {2}  # without a truth the positions are kept
    shutil.copy(TRUTH, place / "truth.json")
    records = store.read_runs(place)
    assert records == store.read_runs(HOME / "3" / "vit-missing-v1")
    assert [scores["tree"] for scores in records[0].per_tree] == [1, 3, 4, 2, 0]
    for old, new in zip(older, records, strict=True):
        unnumbered = [[{**scores, "tree": None} for scores in record.per_tree] for record in (old, new)]
        assert unnumbered[0] == unnumbered[1]
    assert store.read_runs(place, relabel=False) == older


def test_a_score_of_a_tree_that_the_truth_lacks_is_an_error(tmp_path):
    place = tmp_path / "vit-missing-v1"
    shutil.copytree(HOME / "2" / "vit-missing-v1", place)
    truth = read_json(TRUTH)
    kept = {id: entry for id, entry in truth["nodes"].items() if entry["tree"] < 4}
    (place / "truth.json").write_text(json.dumps(truth | {"nodes": kept}))
    with pytest.raises(MothrError, match=r"is scored on more trees than the 4 of .*truth\.json; .*mothr rescore"):
        store.read_runs(place)


def test_samples_of_the_first_two_versions_are_the_same_records():
    newer = {record.run_id: record for record in store.read_all(HOME / "2")}
    for name in SINGLE_FILES:
        assert newer[stored(name).run_id] == stored(name)


@pytest.mark.parametrize("split", ["tiny-hidden-v1", "vit-missing-v1"])
def test_samples_of_versions_3_and_4_are_the_same_records(split):
    older, newer = (store.read_runs(HOME / version / split) for version in ("3", "4"))
    assert [record.model_copy(update={"schema_version": 4}) for record in older] == newer


def test_every_version_has_a_sample_of_a_failed_run():
    assert sorted(path.name for path in HOME.iterdir()) == [str(version) for version in range(1, SCHEMA_VERSION + 1)]
    assert {"ok", "failed"} <= {stored(name).status for name in SINGLE_FILES}
    for version in ("2", "3", "4"):
        assert {"ok", "failed"} <= {record.status for record in store.read_all(HOME / version)}


@pytest.mark.parametrize(
    ("method", "given", "kind"),
    [
        ("linea", ["trees"], "method"),
        ("null-star", [], "null"),
        ("null-metadata", ["metadata"], "null"),
        ("oracle-star", ["truth"], "oracle"),
        ("lab:Cheat", ["metadata", "truth"], "oracle"),
        ("model-atlas", ["metadata"], "metadata"),
    ],
)
def test_the_kind_of_a_record_of_version_1_comes_from_its_name_and_what_it_was_given(method, given, kind):
    value = json.loads((HOME / SINGLE_FILES[0]).read_text()) | {"method": method, "told": given}
    record = RunRecord.from_json(value, "old.json")
    assert (record.kind, record.given, record.schema_version) == (kind, given, BY_POSITION)


@pytest.mark.parametrize("version", [0, 5, None, "1", 1.5, True])
def test_an_unknown_version_is_refused_by_its_number(version, tmp_path):
    value = json.loads((HOME / SINGLE_FILES[0]).read_text()) | {"schema_version": version}
    with pytest.raises(MothrError, match=rf"old\.json: schema_version.*{version!r}.*update mothr"):
        RunRecord.from_json(value, "old.json")
