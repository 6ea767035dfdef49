"""Files that are whole or absent."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import (
    cache_folder,
    cannot_write,
    canonical_sha256,
    read_json,
    sha256_of,
    write_bytes,
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


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # a disk that is full when the bytes are to reach it
    with pytest.raises(MothrError, match=r"No space left.*free some space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_impossible_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MothrError, match=r"file/below: cannot write .*check the path"):
        write_text(tmp_path / "file" / "below", "text")
    assert "free some space" in str(cannot_write(Path("x"), OSError(errno.ENOSPC, "full")))


def test_json_goes_both_ways(tmp_path):
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
def test_what_is_not_json_is_refused(tmp_path, content):
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
