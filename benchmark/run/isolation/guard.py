"""The process that starts methods, watches them, and ends them with all they have started.

:mod:`mothr.benchmark.run.isolation` starts it, once for many runs, since importing torch takes longer than most runs. For each run it
forks a child, which shuts itself off before any of the method's code is imported, and to which the harness speaks directly: a guard
never holds what a method is told.
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

from mothr.benchmark.run.isolation.sandbox import shut_off

PROCESSES = 64
"""How many processes a method may have at a time."""
SUBREAPER = 36
"""The option by which a process inherits the orphans among its descendants: so none gets away."""


def serve(line: socket.socket) -> None:
    """Starts a method for each message, {"seconds", "memory"} with a socket beside it, until ``line`` is closed."""
    import torch

    import mothr.benchmark.run.check  # noqa: F401 (so that no child has to)

    torch.set_num_threads(1)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # to be heard above a method that starts processes without end
    while True:
        message, handles, _, _ = socket.recv_fds(line, 1 << 16, 1)
        if not message:
            return
        if not handles:  # asked to end what had ended by itself
            continue
        limits = json.loads(message)
        child = os.fork()
        if child == 0:
            os.setpriority(os.PRIO_PROCESS, 0, usual)
            _become_the_method(handles[0])
        os.close(handles[0])
        ended = _watch(child, line, limits["seconds"], limits["memory"])
        line.sendall(json.dumps(ended).encode())


def _watch(child: int, line: socket.socket, seconds: float, memory: int) -> dict[str, Any]:
    """Returns how the child ended, {"why", "status", "peak_bytes"}; nothing that it started runs on.

    Args:
        child: its process id.
        line: says when to end it; so does its being closed.
        seconds: how long it may take.
        memory: bytes that it may hold, with all that it has started.
    """
    start, peak, why, waited = time.monotonic(), 0, None, 0.01
    ends = [os.pidfd_open(child)] if hasattr(os, "pidfd_open") else []  # ready when the child has ended
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if line.fileno() in select.select([line.fileno(), *ends], [], [], waited)[0]:
            asked = line.recv(1 << 16)
            _end_all(child)
            if not asked:
                sys.exit()  # the harness is gone
            why = why or "stopped"
            continue
        held, count = _held()
        peak, waited = max(peak, held), min(0.2 if ends else 0.02, waited * 1.5)
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
    """Returns the resident bytes and the number of all processes below this one."""
    total, below = 0, psutil.Process().children(recursive=True)
    for one in below:
        with contextlib.suppress(psutil.Error):
            total += one.memory_info().rss
    return total, len(below)


def _end_all(child: int) -> None:
    """Kills the child's process group, and every process below this one that has left it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            one.kill()


def _become_the_method(handle: int) -> None:
    """Runs the method that the harness describes over the socket ``handle``, answers over it, and never returns."""
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)  # what a method prints is for its author
        os.closerange(3, handle)
        os.closerange(handle + 1, os.sysconf("SC_OPEN_MAX"))
        os.setpgid(0, 0)
        _limit_processes()
        with socket.socket(fileno=handle).makefile("rwb") as channel:
            _answer(channel)
    except BaseException as problem:  # whatever happens, this process is not to go on as a guard
        with contextlib.suppress(BaseException):
            print(f"the method's process failed: {problem!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def _limit_processes() -> None:
    """Keeps the user from having many more processes and threads than there are now; root is not bound by it."""
    with contextlib.suppress(OSError, ValueError):
        there = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        resource.setrlimit(resource.RLIMIT_NPROC, (there + PROCESSES, there + PROCESSES))


def _answer(channel: io.BufferedRWPair) -> None:
    """Reads the job, shuts the process off, says what the method is, reads what it is told, and says what it answers.

    Without models, it says what the conformance suite finds.
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

    def say(value: Mapping[str, Any]) -> None:
        channel.write(json.dumps(value).encode() + b"\n")
        channel.flush()

    job = json.loads(channel.readline())
    sys.path[:] = job["path"]
    os.chdir(job["scratch"])
    os.environ.update(job["environment"])
    locked = shut_off(*([Path(path) for path in job[key]] for key in ("readable", "writable", "listed")))
    models = open_folder(Path(job["models"])) if job["models"] else None
    try:
        method = find_method(job["method"], job["settings"])
        said = about(method, job["method"])
    except MothrError as error:
        return say({"refused": str(error)})
    say(
        {
            "version": said.version,
            "tuned_on": said.tuned_on,
            "parameters": said.parameters,
            "needs": sorted(said.needs),
            "kind": said.kind,
            "locked": locked,
            "device": device().type,
        }
    )
    if models is None:
        return say({"findings": [asdict(finding) for finding in check_method(method)]})
    told = SideInformation.from_json(json.loads(channel.readline()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MothrWarning)
        try:
            with engine(job["workers"], job["budget"]):
                given: dict[str, Any] = {
                    "prediction": predict_as_named(method, models.with_given(told), job["seed"]).to_json()
                }
                json.dumps(given)  # may fail, too
        except (
            Exception,
            SystemExit,
        ) as problem:  # a method is foreign code: whatever it raises is recorded in its row
            given = {"error": describe_error(problem)}
    return say(given | {"warnings": [str(one.message) for one in caught if issubclass(one.category, MothrWarning)]})


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
