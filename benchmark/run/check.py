"""The conformance suite: rules that every method must keep, tried on tiny forests. Good scores are not asked for."""

import os
import random
import re
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from mothr.benchmark.errors import MothrWarning, describe_error
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import Setting
from mothr.benchmark.run.execute import side_information
from mothr.benchmark.run.forests import Written, forests, opposite
from mothr.benchmark.run.in_process import Attempt, try_to_predict
from mothr.benchmark.run.method import Method, about, needs, parameters
from mothr.benchmark.run.plan import SETTINGS
from mothr.benchmark.storage import canonical_sha256, sha256_of
from mothr.benchmark.weights.model_set import ModelSet

RULES = {
    "fields": (
        "fields can be recorded, needs are known",
        "use numbers, text, lists or None, and leave fields as they are",
    ),
    "prediction": (
        "a legal Prediction of exactly the models, for every forest",
        "return a Prediction for unusual forests, too, and name each model once",
    ),
    "confidence": ("confidence within [0, 1], on predicted edges alone", "give a probability, or leave the edge out"),
    "known-trees": (
        "at most one root in each given tree, no edge between trees",
        "span each part of models.given.trees by itself",
    ),
    "seed": (
        "the same seed gives the same prediction",
        "draw from the rng that the method is called with, and keep nothing between calls",
    ),
    "global-state": (
        "the prediction is the same in any global random state",
        "draw from rng, not from random, numpy.random or torch",
    ),
    "ids": ("other ids give the same prediction", "use positions in models.ids, never the text of ids"),
    "listing": (
        "other file names and another listing order give the same prediction",
        "read weights, not the paths of files",
    ),
    "weights": ("the models are left as they were", "copy what is to be changed"),
    "files": ("no file is written", "return everything in the Prediction; keep nothing on disk"),
    "time": (
        "all tiny forests are predicted in time",
        "a real split is a hundred times as large; find what takes so long",
    ),
    "memory": (
        "all tiny forests are predicted in little memory",
        "read one tensor of all models at a time, as models.stacks() does",
    ),
}
"""Name of each rule -> (what holds if it is kept, what to do if it is broken)."""
INVARIANCES = ("global-state", "ids", "listing")
"""Rules that compare two predictions. They cannot be judged if the same seed gives different predictions."""
SECONDS = 60.0
"""Limit for predicting each forest once in each setting, in seconds."""
MEMORY = 1 << 30
"""Bytes that this process may grow by. What a method loads when it is first called counts, too."""
CONFIDENCE_ERROR = "confidence of "
"""The beginning of the errors that :class:`Prediction` raises for a faulty confidence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule."""

    rule: str
    """A name of :data:`RULES`."""
    status: Literal["ok", "FAILED", "not checked"]
    """``not checked``: another failure left nothing to judge."""
    text: str
    """What holds; or what was seen, and what to do."""


def check_method(method: Method, seconds: float = SECONDS, memory: int = MEMORY) -> tuple[Finding, ...]:
    """Returns one finding for each of :data:`RULES`, in their order. An error of the method is a finding, too.

    Args:
        method: the method to check.
        seconds: time limit for predicting every forest once in each setting. The check stops there.
        memory: bytes that this process may grow by. The check stops there, too.
    """
    report = _Report()
    if report.note("fields", _fields_problem(method)):
        before = parameters(method)
        with TemporaryDirectory() as place, _separate_surroundings(Path(place)) as home:
            written = [Written.write(forest, home / f"forest-{number}") for number, forest in enumerate(forests())]
            content = _content(home)
            spent, held = 0.0, _reset_largest()
            for forest, setting in tqdm(
                list(product(written, SETTINGS)), desc="forests", disable=None, file=sys.stderr
            ):
                spent += _judge(method, forest, setting, report)
                growth = _largest() - held
                if spent > seconds or growth > memory:
                    break
            over = f"stopped when it held {growth / 2**20:.0f} MiB, of {memory / 2**20:.0f} MiB allowed"
            report.note("memory", over if growth > memory else None)  # names the forest
            report.where = ""
            report.note("time", f"stopped after {spent:.1f} s of {seconds:g} s allowed" if spent > seconds else None)
            present = _content(home)
            changed = sum(present.get(name) != content[name] for name in content)
            report.note("weights", f"{changed} model files have changed" if changed else None)
            added = sorted(present.keys() - content.keys())
            report.note("files", f"it wrote {', '.join(added[:3])}" if added else None)
        report.note("fields", "its fields changed while it ran" if parameters(method) != before else None)
    return report.findings()


class _Report:
    """The first problem with each rule that was judged."""

    def __init__(self) -> None:
        self.seen: dict[str, str | None] = {}
        self.where = ""

    def note(self, rule: str, problem: str | None) -> bool:
        """Notes a problem with ``rule``, or None for no problem. Returns whether there is none."""
        if self.seen.get(rule) is None:
            self.seen[rule] = problem and self.where + problem
        return problem is None

    def findings(self) -> tuple[Finding, ...]:
        """Returns a finding for each rule."""
        findings = []
        for rule, (holds, remedy) in RULES.items():
            problem = self.seen.get(rule)
            if rule not in self.seen or (rule in INVARIANCES and self.seen["seed"]):
                text = f"{holds}: cannot be judged before other failures are mended"
                findings.append(Finding(rule, "not checked", text))
            elif problem:
                findings.append(Finding(rule, "FAILED", f"{problem}; {remedy}"))
            else:
                findings.append(Finding(rule, "ok", holds))
        return tuple(findings)


def _judge(method: Method, written: Written, setting: Setting, report: _Report) -> float:
    """Runs ``method`` on one forest under each condition, and notes problems. Returns the seconds of the first run."""
    report.where = f"{written.forest.name}, {setting}: "
    given = side_information(about(method, "method"), setting, written.folder, written.truth)
    models, tables = written.models.with_given(given), written.tables()
    first = _run(method, models)
    prediction = first.prediction
    if first.error is not None and first.error.startswith(CONFIDENCE_ERROR):
        report.note("confidence", first.error)
        return first.seconds
    report.note("prediction", first.error)
    if prediction is None:
        return first.seconds
    report.note("confidence", None)
    if given.trees is not None:
        report.note("known-trees", _partition_problem(prediction, given.trees))
    digests = {checkpoint.id: checkpoint.digest for checkpoint in (*models.checkpoints, *written.others.checkpoints)}

    def same(rule: str, run: Attempt) -> bool:
        if run.prediction is None:
            return report.note(rule, f"failed now: {run.error}")
        return report.note(rule, _difference(prediction, run.prediction, digests))

    if same("seed", _run(method, models)):
        same("global-state", _run(method, models, state=2))
        same("ids", _run(_with_other_ids(method), models))
        same("listing", _run(method, written.others.with_given(given.relabel(written.names))))
    report.note("weights", None if written.tables() == tables else "the models' tables of tensors have changed")
    return first.seconds


def _with_other_ids(method: Method) -> Method:
    """Returns ``method``, given other ids. Its predictions are in the original ids."""

    def predict(models: ModelSet, rng: np.random.Generator) -> Prediction:
        names = {node: opposite(node) for node in models.ids}
        return method(models.relabel(names), rng).relabel({new: old for old, new in names.items()})

    return predict


def _run(method: Method, models: ModelSet, state: int = 1) -> Attempt:
    """Returns the result of ``method`` with seed 0, after the global random generators are seeded with ``state``."""
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
    return try_to_predict(method, models, seed=0)


def _partition_problem(prediction: Prediction, trees: Mapping[NodeId, int]) -> str | None:
    """Returns how ``prediction`` contradicts the given partition into trees; None if it does not."""
    edges = prediction.graph.edges
    crossing = sum(trees[parent] != trees[child] for parent, child in edges)
    if crossing:
        return f"{crossing} of {len(edges)} edges join different trees"
    roots = Counter(trees[root] for root in prediction.graph.roots if root not in prediction.abstained)
    most = max(roots.values(), default=0)
    return f"a given tree has {most} roots" if most > 1 else None


def _difference(first: Prediction, second: Prediction, digests: Mapping[NodeId, str]) -> str | None:
    """Returns how two predictions differ; None if they do not. Models with the same weights are interchangeable.

    Args:
        first: a prediction.
        second: another prediction, possibly in other ids.
        digests: id -> digest of the model's weights.
    """
    both = (first, second)

    def edges(prediction: Prediction) -> list[tuple[str, str, float]]:
        confidence = prediction.confidence or {}
        return sorted(
            (digests[edge[0]], digests[edge[1]], confidence.get(edge, -1.0)) for edge in prediction.graph.edges
        )

    def clusters(prediction: Prediction) -> list[list[str]]:
        trees = prediction.trees or {}
        return sorted(sorted(digests[node] for node in trees if trees[node] == label) for label in set(trees.values()))

    def relations(prediction: Prediction) -> list[tuple[str, str]]:
        return sorted((digests[node], relation) for node, relation in (prediction.relations or {}).items())

    before, after = (Counter(edge[:2] for edge in edges(prediction)) for prediction in both)
    if before != after:
        return f"edges gone: {(before - after).total()}, edges new: {(after - before).total()}"
    confidences = [[edge[2] for edge in edges(prediction)] for prediction in both]
    if not np.allclose(confidences[0], confidences[1], rtol=0, atol=1e-6):
        return "confidences differ"
    if clusters(first) != clusters(second):
        return "tree labels differ"
    abstained = [sorted(digests[node] for node in prediction.abstained) for prediction in both]
    if abstained[0] != abstained[1]:
        return "abstentions differ"
    return "relations differ" if relations(first) != relations(second) else None


def _reset_largest() -> int:
    """Returns the largest resident memory of this process in bytes. On Linux, it is measured from now on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _largest()


def _largest() -> int:
    """Returns the largest resident memory of this process in bytes."""
    try:
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except (OSError, ValueError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(kilobytes) * 1024


def _fields_problem(method: Method) -> str | None:
    try:
        needs(method)
        canonical_sha256(parameters(method))
    except Exception as error:  # a property of a method may raise anything
        return describe_error(error)
    return None


def _content(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): sha256_of(path) for path in home.rglob("*") if path.is_file()}


@contextmanager
def _separate_surroundings(place: Path) -> Iterator[Path]:
    """Gives a folder that holds the working directory, with an empty cache elsewhere.

    Restores random states and standard output.
    """
    states = random.getstate(), np.random.get_state()
    cache = os.environ.get("MOTHR_CACHE")
    home = place / "home"
    (home / "here").mkdir(parents=True)
    os.environ["MOTHR_CACHE"] = str(place / "cache")
    try:
        with (
            chdir(home / "here"),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore", MothrWarning)  # some forests are unusual on purpose
            yield home
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        os.environ.pop("MOTHR_CACHE", None)
        if cache is not None:
            os.environ["MOTHR_CACHE"] = cache
