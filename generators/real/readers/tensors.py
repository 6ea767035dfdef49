"""What all readers share: the type of their result, a missing library, and a damaged file."""

from collections.abc import Callable, Mapping

import torch

from mothr.benchmark.errors import MothrError, Skipped

Tensors = dict[str, torch.Tensor]
"""Name of a tensor, as the architecture has it -> its values."""
Reader = Callable[[Mapping[str, bytes], str], Tensors]
"""Reads a network from its files (path in the archive -> bytes). The second argument names it in messages."""


def damaged(name: str, reason: str) -> MothrError:
    """Returns the error for a file that is cut short, or that is not of the expected format."""
    return MothrError(f"{name}: {reason}; the file is cut short or of another format: remove it and fetch it again")


def no_library(name: str, library: str) -> Skipped:
    """Returns the error for a file that needs a library that is not installed."""
    return Skipped(f'{name} needs the library {library}, which is not installed; run: pip install "mothr[fetch]"')


def only_file(files: Mapping[str, bytes], name: str) -> bytes:
    """Returns the bytes of a network that is one file.

    Raises:
        MothrError: there is another number of files.
    """
    if len(files) != 1:
        raise damaged(name, f"has {len(files)} files where one is expected")
    return next(iter(files.values()))
