"""Text tasks: balanced classes, windows of their domains, the same draw every time."""

import pytest
import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.data import text, text_tasks
from mothr.generators.data.text_tasks import SIZES, TASKS, WINDOW


@pytest.mark.parametrize("name", TASKS)
def test_classes_are_equally_frequent_and_windows_are_of_their_domains(name):
    task = TASKS[name]
    windows, labels = text_tasks.load(name, "test")
    assert windows.shape == (SIZES["test"], WINDOW)
    assert windows.dtype == torch.uint8
    assert len(set(torch.bincount(labels, minlength=len(task.classes)).tolist())) == 1
    for window, label in zip(windows[:12], labels[:12].tolist(), strict=True):
        texts = [text.load(domain, "test").numpy().tobytes() for domain in task.domains[label]]
        assert any(window.numpy().tobytes() in page for page in texts)


def test_no_window_is_in_both_subsets():
    train, test = (text_tasks.load("sort-english", subset)[0] for subset in ("train", "test"))
    assert not {row.numpy().tobytes() for row in train} & {row.numpy().tobytes() for row in test}


def test_a_task_is_the_same_every_time():
    first = text_tasks.digest("sort-cpp")
    text_tasks._load.cache_clear()
    assert text_tasks.digest("sort-cpp") == first


def test_an_unknown_task_is_an_error_with_a_near_name():
    with pytest.raises(MothrError, match="sort-english"):
        text_tasks.load("sort-englsh", "train")
