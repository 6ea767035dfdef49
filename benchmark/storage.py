"""Files: atomic writing, so that a file is complete or absent; hashing; strict JSON; and the cache folder."""

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
"""Ending of the temporary name of a file that is being written.

The name begins with a dot. Readers ignore such files.
"""
STALE_SECONDS = 24 * 3600
"""Age in seconds after which a temporary file is removed: its writer was killed."""
MAX_DEPTH = 64
"""Largest depth of nested lists and objects in a JSON file."""
MAX_DIGITS = 100
"""Largest number of digits of a whole number in a JSON file."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape sequence of half a character (UTF-16 surrogate)."""


def cache_folder(kind: str) -> Path:
    """Returns the folder ``kind`` below ``$MOTHR_CACHE``, or below ``~/.cache/mothr`` if that variable is not set."""
    return Path(os.environ.get("MOTHR_CACHE") or Path.home() / ".cache" / "mothr") / kind


def is_inside(path: Path, folder: Path) -> bool:
    """Returns whether ``path`` is in ``folder`` after all links are followed. A circle of links is not."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # Path.resolve raises it for a circle of links
        return False


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of the bytes of a file, in hex.

    Raises:
        MothrError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MothrError(f"{path}: cannot read ({error.strerror or error})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` under a temporary name and renames the file to ``path``. So no reader sees an incomplete file.

    Raises:
        MothrError: The disk is full, or the folder cannot be written. An old file at ``path`` is then
            unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent.absolute())
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
        raise write_error(path, error) from error


@cache  # once for each process and folder, since listing a large folder takes longer than writing a file
def _remove_stale(folder: Path) -> None:
    """Removes temporary files that killed writers left in ``folder``."""
    with os.scandir(folder) as entries:
        partial = [Path(entry) for entry in entries if entry.name.startswith(".") and entry.name.endswith(PARTIAL)]
    for path in partial:
        with suppress(OSError):  # another process removed the file, or this process may not remove it
            if time.time() - path.lstat().st_mtime > STALE_SECONDS:
                path.unlink()


def write_error(path: Path, error: OSError) -> MothrError:
    """Returns the error for a failed write to ``path``, with the remedy."""
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    remedy = "free some space and run the same command again" if full else "check the path and its rights"
    return MothrError(f"{path}: cannot write ({error.strerror or error}); {remedy}")


def write_text(path: Path, content: str) -> None:
    """Writes ``content`` as UTF-8, atomically as :func:`write_bytes` does."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically as :func:`write_bytes` does. NaN raises a ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns the JSON value in ``path``.

    Raises:
        MothrError: The file is missing, or :func:`parse_json` refuses its text.
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
    """Returns the JSON value of ``text``. The value can always be written as JSON again.

    Raises:
        ValueError: ``text`` is not JSON, or it holds a part that parsers read differently: a name twice in one
            object, NaN, a number out of range, half a character, or lists and objects nested deeper than
            :data:`MAX_DEPTH`.
        RecursionError: ``text`` is nested too deeply for the parser.
    """
    value = json.loads(
        text, object_pairs_hook=_unique_names, parse_constant=_finite, parse_float=_finite, parse_int=_short_integer
    )
    containers = [value] if isinstance(value, dict | list) else []  # those of one depth
    for _ in range(MAX_DEPTH):
        contents = (outer.values() if isinstance(outer, dict) else outer for outer in containers)
        containers = [inner for content in contents for inner in content if isinstance(inner, dict | list)]
    if containers:
        raise ValueError(f"more than {MAX_DEPTH} lists and objects nested in each other")
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character: {error.object[error.start]!r}") from None
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {repeated[:80]!r} occurs twice in one object")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is not a finite number")
    return number


def _short_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; the limit is {MAX_DIGITS}")
    return int(text)


def canonical_json(value: Any) -> str:
    """Returns the canonical JSON text of ``value``: sorted keys, no spaces, ASCII. Equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_sha256(value: Any) -> str:
    """Returns the SHA-256 of the canonical JSON text of ``value``, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
