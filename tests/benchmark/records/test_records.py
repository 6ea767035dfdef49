"""RunRecord files of every schema version there ever was load for ever.

``stored/<k>/`` holds files of schema version k as they were written, one of a failed run among them. They are never edited: their
hashes are below. A field with a default may be added within a version. Whatever old files do not have, or have otherwise, makes
version k + 1: ``schema_version`` of ``RunRecord`` becomes ``Literal[k + 1]``; ``results.read`` turns the value of a file of version k
into one of k + 1 before it is validated, so that nothing else knows of old versions; files of k + 1 are put into ``stored/<k + 1>/``;
and those of all versions before stay here. Records in ``results/`` are not written anew: what is published is not edited.
"""

import json
from pathlib import Path
from typing import get_args

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import RunRecord, identity
from mothr.benchmark.records.store import file_name, read, write
from mothr.benchmark.storage import canonical_sha256, sha256_of

HOME = Path(__file__).with_name("stored")
KEPT = {
    "1/fingerprint-8848b483.json": "8eb5446d33eaad0ea08fbf5e858ae48d779e1873e02402fa059db9d8453a8648",
    "1/linea-3bb2bcdd.json": "a71d6b9946a59cf7b8ad8c04fced13bf7d10d351abf8ad2ec7563d1b54237063",
    "1/linea-5e21af27.json": "90172db487a8e90366ecd6450bfc2c14d1e3fd936592542c59c03c5eae212481",
    "1/null-star-c9104543.json": "f758bdabd50a246fa2ff901785cf8ff4e73db979dc38962d608c0c47cc1003e8",
}
"""File -> the SHA-256 of its bytes."""


def test_the_samples_are_those_that_were_put_there():
    assert {path.relative_to(HOME).as_posix(): sha256_of(path) for path in HOME.rglob("*.json")} == KEPT


@pytest.mark.parametrize("name", KEPT)
def test_a_record_of_any_version_loads_and_keeps_its_identity_and_its_answer(name, tmp_path):
    stored, record = json.loads((HOME / name).read_text()), read(HOME / name)
    assert file_name(record) == Path(name).name
    assert f"-{canonical_sha256(identity(record))[:8]}.json" in name
    assert (record.status, record.parents, record.metrics) == (stored["status"], stored["parents"], stored["metrics"])
    assert read(write(record, tmp_path)) == record


def test_there_are_samples_of_every_version_a_failed_run_among_them():
    [newest] = get_args(RunRecord.model_fields["schema_version"].annotation)
    assert sorted(path.name for path in HOME.iterdir()) == [str(version) for version in range(1, newest + 1)]
    for place in HOME.iterdir():
        assert {"ok", "failed"} <= {read(path).status for path in place.iterdir()}


@pytest.mark.parametrize("version", [0, 2, None, "1", 1.5, True])
def test_a_version_that_this_one_does_not_know_is_refused_by_its_number(version, tmp_path):
    value = json.loads((HOME / next(iter(KEPT))).read_text())
    (tmp_path / "record.json").write_text(json.dumps(value | {"schema_version": version}))
    with pytest.raises(MothrError, match=rf"record\.json: schema_version.*{version!r}"):
        read(tmp_path / "record.json")
