"""Fixtures of runs: side information, predictions and records of one method."""

import sys
from types import SimpleNamespace

import pytest

from mothr.benchmark.data.dataset import open_models, open_truth
from mothr.benchmark.run.execute import execute, side_information
from mothr.benchmark.run.in_process import InProcess, predict
from mothr.benchmark.run.method import about
from mothr.benchmark.run.outcome import RunRequest


@pytest.fixture
def given_for():
    """A function that returns the side information of a method on a data set."""

    def given_for(method, folder, setting):
        """Returns the side information of a method on a data set."""
        return side_information(about(method, "method"), setting, folder, open_truth(folder))

    return given_for


@pytest.fixture
def prediction_of(given_for):
    """A function that returns the prediction of a method on a data set."""

    def prediction_of(method, folder, setting, seed=3):
        """Returns the prediction of a method on a data set."""
        return predict(method, open_models(folder).with_given(given_for(method, folder, setting)), seed)

    return prediction_of


@pytest.fixture
def record_of_run():
    """A function that returns the record of one run in this process."""

    def record_of_run(folder, method, setting="open", seed=0, **settings):
        """Returns the record of one run in this process."""
        [(_, record)] = execute([RunRequest(method, settings, setting, seed)], folder, open_truth(folder), InProcess())
        return record

    return record_of_run


@pytest.fixture
def registered(monkeypatch):
    """A function that makes a method importable, and returns its name."""

    def register(method):
        monkeypatch.setitem(sys.modules, "lab_methods", SimpleNamespace(bad=method))
        return "lab_methods:bad"

    return register
