"""The sandbox: locks a process out of TCP and of all files but the given ones, if the system can do that.

Linux can, since version 5.13, by Landlock (https://docs.kernel.org/userspace-api/landlock.html). No rights are
needed. The process names the files and folders that it will use, and then locks itself. From then on the kernel
refuses to open any other file. The lock also holds for every process that the locked one starts, and cannot be
removed. What each version of Landlock locks stands in the docstring of :mod:`mothr.benchmark.run.isolation`.

The calls are made through ctypes, because neither Python nor the C library has functions for them.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every processor."""
PATH_BENEATH = 1
"""Kind of rule: rights on a file, or on everything below a folder."""
NO_NEW_PRIVILEGES = 38
"""Option of ``prctl``: programs cannot gain rights any more. Landlock asks for it."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
"""Rights on a file. The other rights are on folders."""
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Version of Landlock -> number of the rights that it knows. Later versions know 16."""
TCP = (1 << 0) | (1 << 1)
"""Rights on TCP: to listen and to connect. Known since version 4."""
SCOPED = (1 << 0) | (1 << 1)
"""Abstract sockets and signals reach only processes in the same sandbox. Known since version 6."""


class _Ruleset(ctypes.Structure):
    """The rights that a ruleset takes away: bits of rights on files, on the network, and of scopes."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    """A rule that gives rights on a file or folder back."""

    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 requires it if fields are packed
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Returns the version of Landlock that the system has; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def lock(readable: Iterable[Path], writable: Iterable[Path], listed: Iterable[Path] = ()) -> bool:
    """Locks this process, if the system has Landlock. Returns whether it is locked.

    Args:
        readable: files and folders that can still be read and executed, with everything below. One that does not
            exist is passed over.
        writable: files and folders that can still be read, written, made and removed, with everything below.
        listed: folders whose entries, also of folders below, can still be listed. Their files cannot be read.

    Raises:
        OSError: the system has Landlock and refuses to use it.
    """
    known = version()
    if known == 0:
        return False
    every = (1 << RIGHTS.get(known, 16)) - 1
    granted = ((readable, EXECUTE | READ_FILE | READ_DIR), (writable, every & ~EXECUTE), (listed, READ_DIR))
    rules = _Ruleset(every, TCP if known >= 4 else 0, SCOPED if known >= 6 else 0)
    ruleset = _call(
        CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(8 if known < 4 else 16 if known < 6 else 24), 0
    )
    try:
        for paths, rights in granted:
            for path in paths:
                _allow(ruleset, path, rights)
        if ctypes.CDLL(None, use_errno=True).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise _last_error()
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & ON_FILES, place)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _call(*arguments: object) -> int:
    result = int(ctypes.CDLL(None, use_errno=True).syscall(*arguments))
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
