"""Shuts the running process off from all files but those it is given, and from TCP, where the system can do that.

Linux can since 5.13 (Landlock, https://docs.kernel.org/userspace-api/landlock.html), and no rights are needed. What is asked for
is granted; everything else is refused by the kernel, to this process and to all that it starts, and nothing can take that back.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every kind of machine."""
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
"""Rights that mean something for a file; the others are for folders."""
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Version of Landlock -> how many rights on files it knows; later versions know 16."""
TCP = (1 << 0) | (1 << 1)
"""To listen and to connect (version 4)."""
SCOPED = (1 << 0) | (1 << 1)
"""Abstract sockets and signals reach only what is shut off as well (version 6)."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 asks for it where fields are packed
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Returns the version of Landlock that the system has; 0 where it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def shut_off(readable: Iterable[Path], writable: Iterable[Path], listed: Iterable[Path] = ()) -> bool:
    """Returns whether this process now reaches nothing but these files and folders, and no TCP network.

    Args:
        readable: what may be read and run, with all that is below it; what does not exist is passed over.
        writable: what may be read, written, made and removed likewise.
        listed: folders whose names, and those below them, may be listed, and nothing read.

    Raises:
        OSError: the system has Landlock and refuses its use.
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
    found = int(ctypes.CDLL(None, use_errno=True).syscall(*arguments))
    if found < 0:
        raise _last_error()
    return found


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
