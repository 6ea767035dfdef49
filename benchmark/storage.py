"""Files that are whole or absent: atomic writing, hashing, and the cache folder."""

import errno
import hashlib
import json
import math
import os
import re
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mothr.benchmark.errors import MothrError

PARTIAL = ".partial"
"""How the name of a file ends that is being written; it begins with a dot. Readers pass both over."""
STALE = 24 * 3600
"""Seconds after which such a file is one that a killed writer left."""
DEEPEST = 64
"""Lists and objects within each other that a JSON file may have."""
DIGITS = 100
"""Digits that a whole number in a JSON file may have."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def cache_folder(kind: str) -> Path:
    """Returns the cache folder for one ``kind`` of thing: below ``$MOTHR_CACHE``, else ``~/.cache/mothr``."""
    return Path(os.environ.get("MOTHR_CACHE") or Path.home() / ".cache" / "mothr") / kind


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes in hex.

    Raises:
        MothrError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MothrError(f"{path}: cannot read ({error.strerror or error})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` under a temporary name and renames it, so that no reader meets half a file.

    Raises:
        MothrError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent.absolute())
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


@cache  # once a process and folder: listing a large one takes longer than writing a file
def _sweep(folder: Path) -> None:
    """Removes what killed writers left in ``folder``."""
    with os.scandir(folder) as entries:
        left = [Path(entry) for entry in entries if entry.name.startswith(".") and entry.name.endswith(PARTIAL)]
    for path in left:
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            if time.time() - path.lstat().st_mtime > STALE:
                path.unlink()


def cannot_write(path: Path, error: OSError) -> MothrError:
    """Returns the error for a failed write to ``path``."""
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    remedy = "free some space and run the same command again" if full else "check the path and its rights"
    return MothrError(f"{path}: cannot write ({error.strerror or error}); {remedy}")


def write_text(path: Path, content: str) -> None:
    """Writes ``content`` as UTF-8, atomically; see :func:`write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON without NaN, atomically; see :func:`write_bytes`."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns the JSON value in ``path``.

    Raises:
        MothrError: the file is missing or is not JSON (see :func:`parse_json`).
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MothrError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise MothrError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise MothrError(f"{path}: cannot read ({error.strerror or error})") from error


def parse_json(text: str) -> Any:
    """Returns the JSON value of ``text``, of which it is certain that it can be written again.

    Raises:
        ValueError: it is no JSON, or holds what readers take differently: a name twice, NaN, numbers out of range, half a character.
        RecursionError: it is nested too deeply for the parser; ValueError where it is only deeper than :data:`DEEPEST`.
    """
    value = json.loads(text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        insides = (value.values() if isinstance(value, dict) else value for value in level)
        level = [inner for inside in insides for inner in inside if isinstance(inner, dict | list)]
    if level:
        raise ValueError(f"more than {DEEPEST} lists and objects within each other")
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character: {error.object[error.start]!r}") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} is named twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of ``value``: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_sha256(value: Any) -> str:
    """Returns the SHA-256 in hex of :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
