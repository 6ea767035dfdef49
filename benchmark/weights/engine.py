"""The processes that features are computed in, and the memory they may take."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context


@contextmanager
def engine(workers: int, memory: float) -> Iterator[None]:
    """Computes features within the block in so many processes of one thread each, with so many GiB in all."""
    from mothr.benchmark.weights.features import computing

    one_thread()
    with ExitStack() as stack:
        pool = None
        if workers > 1:
            pool = stack.enter_context(
                ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread)
            )
        stack.enter_context(computing(budget=int(memory * 2**30), executor=pool, workers=workers))
        yield


def one_thread() -> None:
    """Keeps torch to one thread: the tensors here are small, and several threads slow each other down."""
    import torch

    torch.set_num_threads(1)
