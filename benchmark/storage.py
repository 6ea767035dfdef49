"""Files that are whole or absent: atomic writing, hashing, and the cache folder."""

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mothr.benchmark.errors import MothrError


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
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
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
        MothrError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MothrError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MothrError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise MothrError(f"{path}: cannot read ({error.strerror or error})") from error


def canonical_sha256(value: Any) -> str:
    """Returns the SHA-256 in hex of the canonical JSON of ``value`` (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()
