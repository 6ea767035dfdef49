"""The guard process: it starts the methods' processes, watches them, and kills them with all their descendants.

The harness starts one guard for many runs, because importing torch takes longer than most runs. For each run the
guard forks a child. The child locks itself in the sandbox, and imports the method's code after that. The harness
talks to the child directly. So the guard, which is not locked, never holds side information or predictions.
"""

import contextlib
import ctypes
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from mothr.benchmark.run.isolation.sandbox import lock

PROCESSES = 64
"""Largest number of processes that a method may have at a time."""
SUBREAPER = 36
"""Option of ``prctl``: this process becomes the parent of descendants whose own parent has ended. So none escapes."""


def serve(control: socket.socket) -> None:
    """Starts a process for each message of the harness, until the harness closes the connection.

    Args:
        control: the connection to the harness. A message is ``{"seconds", "memory"}`` with a socket, over which the harness
            talks to the new process. The answer to a message is the report of :func:`_watch`.
    """
    import torch

    import mothr.benchmark.run.check  # noqa: F401 (once here instead of in every child)

    torch.set_num_threads(1)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # so that a method which starts processes without end cannot starve it
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not message:
            return
        if not handles:  # a request to end a process that has ended already
            continue
        limits = json.loads(message)
        child = os.fork()
        if child == 0:
            os.setpriority(os.PRIO_PROCESS, 0, usual)
            _become_the_method(handles[0])
        os.close(handles[0])
        report = _watch(child, control, limits["seconds"], limits["memory"])
        control.sendall(json.dumps(report).encode())


def _watch(child: int, control: socket.socket, seconds: float, memory: int) -> dict[str, Any]:
    """Waits until the child ends, or ends it. Returns ``{"why", "status", "peak_bytes"}``. Its descendants have ended, too.

    Args:
        child: its process id.
        control: a message, or the end of the connection, requests the end of the child.
        seconds: wall-clock limit.
        memory: limit of the resident bytes of the child and its descendants.
    """
    start, peak, why, pause = time.monotonic(), 0, None, 0.01
    ends = [os.pidfd_open(child)] if hasattr(os, "pidfd_open") else []  # readable when the child has ended
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if control.fileno() in select.select([control.fileno(), *ends], [], [], pause)[0]:
            message = control.recv(1 << 16)
            _end_all(child)
            if not message:
                sys.exit()  # the harness is gone
            why = why or "stopped"
            continue
        held, count = _held()
        peak, pause = max(peak, held), min(0.2 if ends else 0.02, pause * 1.5)
        if time.monotonic() - start > seconds:
            why = "seconds"
        elif held > memory:
            why = "memory"
        elif count > PROCESSES:
            why = "processes"
        if why:
            _end_all(child)
    with contextlib.suppress(ChildProcessError):
        while True:
            _end_all(child)
            os.waitpid(-1, 0)
    for end in ends:
        os.close(end)
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"why": why, "status": os.waitstatus_to_exitcode(status), "peak_bytes": max(peak, largest)}


def _held() -> tuple[int, int]:
    """Returns the resident bytes and the number of all descendants of this process."""
    total, descendants = 0, psutil.Process().children(recursive=True)
    for process in descendants:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total, len(descendants)


def _end_all(child: int) -> None:
    """Kills the child's process group, and every descendant of this process that has left the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _become_the_method(handle: int) -> None:
    """Turns this process into a method's process, which talks to the harness over the socket ``handle``.

    Never returns.
    """
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)  # what a method prints goes to stderr, for its author
        os.closerange(3, handle)
        os.closerange(handle + 1, os.sysconf("SC_OPEN_MAX"))
        os.setpgid(0, 0)
        _limit_processes()
        with socket.socket(fileno=handle).makefile("rwb") as channel:
            _run_job(channel)
    except BaseException as problem:  # whatever happens, this process must not continue as a guard
        with contextlib.suppress(BaseException):
            print(f"the method's process failed: {problem!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def _limit_processes() -> None:
    """Limits the number of the user's processes and threads to little more than there are now.

    This does not bind root.
    """
    with contextlib.suppress(OSError, ValueError):
        present = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        resource.setrlimit(resource.RLIMIT_NPROC, (present + PROCESSES, present + PROCESSES))


def _run_job(channel: io.BufferedRWPair) -> None:
    """Runs one job of the harness. The messages, one JSON value a line, are in this order:

    1. from the harness: the job;
    2. to the harness: what the method declares about itself, or ``{"refused"}`` with an error;
    3. from the harness: the side information;
    4. to the harness: ``{"prediction", "warnings"}`` or ``{"error", "warnings"}``.

    A job without models gets ``{"findings"}`` of the conformance suite instead of 3 and 4.
    """
    from mothr.benchmark.errors import MothrError, MothrWarning, describe_error
    from mothr.benchmark.run.check import check_method
    from mothr.benchmark.run.in_process import predict_as_named
    from mothr.benchmark.run.method import about
    from mothr.benchmark.run.registry import find_method
    from mothr.benchmark.side_information import SideInformation
    from mothr.benchmark.weights.discovery import open_folder
    from mothr.benchmark.weights.engine import engine
    from mothr.benchmark.weights.streaming import device

    def send(value: Mapping[str, Any]) -> None:
        channel.write(json.dumps(value).encode() + b"\n")
        channel.flush()

    job = json.loads(channel.readline())
    sys.path[:] = job["path"]
    os.chdir(job["scratch"])
    os.environ.update(job["environment"])
    locked = lock(*([Path(path) for path in job[key]] for key in ("readable", "writable", "listed")))
    torch_device = device().type
    models = open_folder(Path(job["models"])) if job["models"] else None
    try:
        method = find_method(job["method"], job["settings"])
        declared = about(method, job["method"])
    except MothrError as error:
        return send({"refused": str(error)})
    send(asdict(declared) | {"needs": sorted(declared.needs), "locked": locked, "device": torch_device})
    if models is None:
        return send({"findings": [asdict(finding) for finding in check_method(method)]})
    given = SideInformation.from_json(json.loads(channel.readline()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MothrWarning)
        try:
            with engine(job["workers"], job["budget"]):
                result: dict[str, Any] = {
                    "prediction": predict_as_named(method, models.with_given(given), job["seed"]).to_json()
                }
                json.dumps(result)  # may fail, too
        except (Exception, SystemExit) as problem:  # the code of a method may raise anything; its record says what
            result = {"error": describe_error(problem)}
    shown = [str(warning.message) for warning in caught if issubclass(warning.category, MothrWarning)]
    return send(result | {"warnings": shown})


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
