"""The harness's connections: to the guard process, which starts methods, and through it to a method's process.

Messages are JSON values. The connection to a method's process carries one value a line.
"""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_MESSAGE = 1 << 26
"""Bytes of a method's message beyond which the harness reads no further: 64 MiB."""
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
"""Environment variables that a method's process inherits. Others may hold secrets."""


class GuardProcess:
    """The guard process, see :mod:`mothr.benchmark.run.isolation.guard`. It serves many runs, one after another."""

    def __init__(self) -> None:
        """Starts the process."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        command = (sys.executable, "-P", "-m", "mothr.benchmark.run.isolation.guard", str(theirs.fileno()))
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=2
        )
        theirs.close()
        self.ended = False
        """Whether the process has ended."""

    def close(self) -> None:
        """Ends the process, and with it all processes that it has started."""
        self._control.close()
        self._process.wait()
        self.ended = True

    @contextmanager
    def started(self, seconds: float, memory: float) -> Iterator["Channel"]:
        """Gives the channel to a new process for a method. The process is ended with the block.

        Args:
            seconds: wall-clock limit.
            memory: limit of the resident memory of the process and all its descendants, in GiB.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                message = json.dumps({"seconds": seconds, "memory": int(memory * 2**30)}).encode()
                socket.send_fds(self._control, [message], [theirs.fileno()])
            channel = Channel(ours, self._control)
            try:
                yield channel
            finally:
                channel.end()
                self.ended = self._process.poll() is not None


class Channel:
    """The connection to a method's process, until the guard reports that this process has ended."""

    def __init__(self, connection: socket.socket, control: socket.socket) -> None:
        """Takes over two sockets.

        Args:
            connection: to the method's process.
            control: to the guard.
        """
        self._connection, self._control = connection, control
        self._received = b""
        self._ended: dict[str, Any] | None = None
        self.fault: str | None = None
        """Why the last message could not be read; None if it could."""

    def send(self, value: Any) -> None:
        """Sends a value. A process that has ended does not receive it, which is no error."""
        try:
            self._connection.sendall(json.dumps(value).encode() + b"\n")
        except OSError:
            return

    def receive(self) -> Any:
        """Returns the next value that the process sends; None if it sends none, or none that can be read."""
        while b"\n" not in self._received and len(self._received) <= LARGEST_MESSAGE:
            ready = select.select([self._connection, self._control], [], [])[0]
            if self._connection in ready:  # first: what was sent before the end of the process still counts
                try:
                    part = self._connection.recv(1 << 20)
                except OSError:
                    part = b""
                if not part:
                    select.select([self._control], [], [], 1)  # the process is ending; the guard soon reports why
                    return None
                self._received += part
            elif self._ended is None:
                self._receive_end()
            else:
                return None
        message, _, self._received = self._received.partition(b"\n")
        try:
            return json.loads(message if len(message) <= LARGEST_MESSAGE else b"")
        except (ValueError, RecursionError):
            self.fault = "its message was no JSON, or too large"
            return None

    def end(self) -> dict[str, Any]:
        """Ends the process if it still runs. Returns the guard's report: ``{"why", "status", "peak_bytes"}``."""
        if self._ended is None:
            self._control.send(b"end")
            self._receive_end()
        return self._ended or {}

    def _receive_end(self) -> None:
        report = self._control.recv(1 << 16)
        self._ended = json.loads(report) if report else {"why": None, "status": "unknown, its guard was ended, too,"}
