"""One process at a time: a lock file, so that two commands do not download the same file at once."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mothr.benchmark.storage import write_error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Runs its block while no other process runs a block with the same lock file. The second process waits.

    The lock file stays: if it were removed, a third process could lock a new file while the second one holds
    the old file. The system releases the lock if the process dies.

    Args:
        path: The lock file; it is made if it does not exist.

    Raises:
        MothrError: the lock file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
