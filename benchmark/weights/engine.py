"""The resources that features are computed with: worker processes and a memory budget.

This module does not load torch.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing import get_context

DEFAULT_BUDGET = 1 << 31
"""Bytes of memory that computing features may use by default: 2 GiB."""


@dataclass(frozen=True, slots=True)
class ComputeResources:
    """The resources that features are computed with. Results depend on them only by rounding errors."""

    budget: int = DEFAULT_BUDGET
    """Bytes of memory that all workers together may use at a time."""
    executor: Executor | None = None
    """A pool of threads or processes, or the executor of a cluster. None computes in the calling thread."""
    workers: int = 1
    """Number of tensors that the executor computes at a time."""

    @property
    def budget_per_worker(self) -> int:
        """Bytes of memory for one tensor of all models."""
        return self.budget // max(1, self.workers)


_resources: ContextVar[ComputeResources | None] = ContextVar("resources", default=None)


def current_resources() -> ComputeResources:
    """Returns the resources of the innermost :func:`use_resources` block, or the defaults outside any block."""
    return _resources.get() or ComputeResources()


@contextmanager
def use_resources(
    *, budget: int = DEFAULT_BUDGET, executor: Executor | None = None, workers: int = 1
) -> Iterator[None]:
    """Computes all features within the block with these resources.

    A tensor of all models that is larger than the budget is computed in parts. If the smallest part is larger
    than the budget, the computation raises a MothrError.

    Args:
        budget: Bytes of memory that all workers together may use at a time.
        executor: A pool of threads or processes, or the executor of a cluster; None computes in the calling
            thread.
        workers: Number of tensors that the executor computes at a time.
    """
    token = _resources.set(ComputeResources(budget, executor, workers))
    try:
        yield
    finally:
        _resources.reset(token)


@contextmanager
def engine(workers: int, memory: float) -> Iterator[None]:
    """Computes all features within the block in a pool of processes with one thread each.

    Args:
        workers: Number of processes; 1 computes in the calling process.
        memory: Memory budget of all processes together, in GiB.
    """
    one_thread()
    with ExitStack() as stack:
        pool = None
        if workers > 1:
            pool = stack.enter_context(
                ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread)
            )
        stack.enter_context(use_resources(budget=int(memory * 2**30), executor=pool, workers=workers))
        yield


def one_thread() -> None:
    """Restricts torch to one thread: the tensors are small, and several threads make their computation slower."""
    import torch

    torch.set_num_threads(1)
