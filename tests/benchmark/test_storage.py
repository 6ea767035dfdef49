"""Files: atomic writing, hashing, and strict JSON."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import (
    STALE_SECONDS,
    cache_folder,
    canonical_sha256,
    read_json,
    sha256_of,
    write_bytes,
    write_error,
    write_json,
    write_text,
)


def test_writing_makes_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # the disk is full when the bytes are written to it
    with pytest.raises(MothrError, match=r"No space left.*free some space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_error_names_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MothrError, match=r"file/below: cannot write .*check the path"):
        write_text(tmp_path / "file" / "below", "text")
    assert "free some space" in str(write_error(Path("x"), OSError(errno.ENOSPC, "full")))


def test_json_survives_writing_and_reading(tmp_path):
    path, value = tmp_path / "value.json", {"b": [1, 2.5, None], "a": "Bäume"}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_bytes().endswith(b"}\n")
    assert "Bäume" in path.read_text(encoding="utf-8")


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", float("nan"))
    assert not (tmp_path / "value.json").exists()


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_other_text_than_json_is_refused(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(MothrError, match=r"value\.json: not valid JSON"):
        read_json(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(MothrError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(MothrError, match="cannot read"):
        read_json(tmp_path)
    with pytest.raises(MothrError, match=r"gone\.bin: cannot read"):
        sha256_of(tmp_path / "gone.bin")


def test_hashes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"bytes" * 100_000)
    assert sha256_of(path) == hashlib.sha256(b"bytes" * 100_000).hexdigest()
    assert canonical_sha256({"b": 1, "a": [1, 2]}) == canonical_sha256({"a": [1, 2], "b": 1})
    assert canonical_sha256({"a": [1, 2]}) != canonical_sha256({"a": [2, 1]})
    assert canonical_sha256({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    assert cache_folder("features") == tmp_path / "features"
    monkeypatch.delenv("MOTHR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("features") == tmp_path / ".cache" / "mothr" / "features"


def test_no_incomplete_file_is_read_while_writers_are_killed():
    script = Path(__file__).parents[1] / "performance" / "bench_writers.py"
    process = subprocess.run([sys.executable, script, "20", "1"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["writers"] == 20
    assert report["records_read"] > 0
    assert report["records"] > 0


@pytest.mark.parametrize("age", [0, STALE_SECONDS + 60])
def test_old_temporary_files_of_killed_writers_are_removed(tmp_path, age):
    other_files = [tmp_path / ".gitignore", tmp_path / "plan.partial"]
    partial = tmp_path / ".value.json.x1y2.partial"
    for path in (partial, *other_files):
        path.write_text("{")
        os.utime(path, (time.time() - age, time.time() - age))
    write_json(tmp_path / "value.json", 1)
    assert partial.exists() == (age == 0)
    assert all(path.exists() for path in other_files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ("[1e999]", "1e999 is not a finite number"),
        ("[NaN]", "NaN is not a finite number"),
        ("9" * 5000, "a number of 5000 digits"),
        ('"\\ud800"', "half a character"),
        ("[" * 65 + "]" * 65, "more than 64 lists and objects"),
    ],
)
def test_json_that_parsers_read_differently_is_refused(tmp_path, content, message):
    path = tmp_path / "value.json"
    path.write_text(content)
    with pytest.raises(MothrError, match=f"not valid JSON \\({message}"):
        read_json(path)


def test_rare_but_valid_json_is_read(tmp_path):
    path = tmp_path / "value.json"
    path.write_text('{"\\ud83c\\udf33": ' + "[" * 63 + "9" * 100 + "]" * 63 + "}")
    assert list(read_json(path)) == ["🌳"]
