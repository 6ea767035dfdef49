"""The guide of the harness, ``benchmark/README.md``: its examples run, and its tables are complete."""

import re
from pathlib import Path

import mothr
from mothr.benchmark.data.dataset import open_truth
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.metrics import METRICS

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "benchmark" / "README.md"
TEXT = GUIDE.read_text(encoding="utf-8")
INTERFACE, METRIC = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_example_of_the_python_interface_runs(tiny, capsys):
    exec(INTERFACE.replace("quickstart/data", str(tiny)), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "1.0"
    assert printed[2].startswith("ok ")
    assert printed[3].startswith("14 ")


def test_the_example_of_a_metric_is_a_metric(tiny):
    names: dict = {}
    exec(METRIC, names)
    truth = open_truth(tiny).prediction
    star = Prediction(mothr.recover(tiny, "null-star").graph)
    metric = names["METRIC"]
    assert metric.value(truth, truth) == 1
    assert 0 <= metric.value(truth, star) <= 1


def test_every_metric_and_every_public_name_is_explained():
    for name in METRICS:
        assert f"`{name}`" in TEXT, name
    for name in set(mothr.__all__) - {"__version__", "MothrError"}:
        assert f"mothr.{name}(" in TEXT or f"`{name}`" in TEXT, name


def test_every_file_that_a_guide_links_to_exists():
    for guide in (GUIDE, ROOT / "CONTRIBUTING.md", ROOT / "tests/README.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / link).exists(), f"{guide}: {link}"
