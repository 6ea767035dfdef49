"""The conformance suite: the rules of conduct that every method keeps on tiny forests, however good its answers are."""

import os
import random
import re
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
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
    "answer": (
        "a legal Prediction of exactly the models, for every forest",
        "answer odd forests, too, and name each model once",
    ),
    "confidence": ("confidence within [0, 1], on predicted edges alone", "give a probability, or leave the edge out"),
    "known-trees": (
        "at most one root in each told tree, no edge between trees",
        "span each part of models.given.trees by itself",
    ),
    "seed": (
        "the same seed gives the same answer",
        "draw from the rng that the method is called with, and keep nothing between calls",
    ),
    "global-state": (
        "the answer is the same in any global random state",
        "draw from rng, not from random, numpy.random or torch",
    ),
    "ids": ("other ids give the same answer", "go by positions in models.ids, never by what ids are"),
    "listing": (
        "other file names and another listing order give the same answer",
        "read weights, not the paths of files",
    ),
    "weights": ("the models are left as they were", "copy what is to be changed"),
    "files": ("no file is written", "return everything in the Prediction; keep nothing on disk"),
    "time": (
        "all tiny forests are answered in time",
        "a real split is a hundred times as large; find what takes so long",
    ),
    "memory": (
        "all tiny forests are answered in little memory",
        "read one tensor of all models at a time, as models.stacks() does",
    ),
}
"""Name of each rule -> what holds, and what to do where it does not."""
INVARIANCES = ("global-state", "ids", "listing")
"""Rules that are judged by comparing two answers, which says nothing where the same seed gives different ones."""
SECONDS = 60.0
"""Limit for answering each forest once in each setting."""
MEMORY = 1 << 30
"""Bytes that this process may grow by meanwhile; what a method loads when it is first called counts, too."""


@dataclass(frozen=True)
class Finding:
    """What came of one rule."""

    rule: str
    """A name of :data:`RULES`."""
    status: Literal["ok", "FAILED", "not checked"]
    """``not checked`` where another failure left nothing to judge."""
    text: str
    """What holds; or what was seen, and what to do."""


def check_method(method: Method, seconds: float = SECONDS, memory: int = MEMORY) -> tuple[Finding, ...]:
    """Returns one finding for each of :data:`RULES`, in their order; errors of the method are findings, too.

    Args:
        method: what to check.
        seconds: how long it may take to answer every forest once in each setting; it is stopped after that.
        memory: bytes that this process may grow by; it is stopped after that, too.
    """
    report = _Report()
    if report.note("fields", _fields_problem(method)):
        before = parameters(method)
        with TemporaryDirectory() as place, _apart(Path(place)) as home:
            written = [Written.write(forest, home / f"forest-{number}") for number, forest in enumerate(forests())]
            content = _content(home)
            spent, held = 0.0, _from_here_on()
            for forest, setting in tqdm(
                list(product(written, SETTINGS)), desc="forests", disable=None, file=sys.stderr
            ):
                spent += _judge(method, forest, setting, report)
                grown = _largest() - held
                if spent > seconds or grown > memory:
                    break
            over = f"stopped when it held {grown / 2**20:.0f} MiB, of {memory / 2**20:.0f} MiB allowed"
            report.note("memory", over if grown > memory else None)  # it says where
            report.where = ""
            report.note("time", f"stopped after {spent:.1f} s of {seconds:g} s allowed" if spent > seconds else None)
            found = _content(home)
            changed = sum(found.get(name) != content[name] for name in content)
            report.note("weights", f"{changed} model files have changed" if changed else None)
            added = sorted(found.keys() - content.keys())
            report.note("files", f"it wrote {', '.join(added[:3])}" if added else None)
        report.note("fields", "its fields changed while it ran" if parameters(method) != before else None)
    return report.findings()


class _Report:
    """The first problem seen with each rule that was judged."""

    def __init__(self) -> None:
        self.seen: dict[str, str | None] = {}
        self.where = ""

    def note(self, rule: str, problem: str | None) -> bool:
        """Notes what was seen, None for nothing wrong, and returns whether that is so."""
        if self.seen.get(rule) is None:
            self.seen[rule] = problem and self.where + problem
        return problem is None

    def findings(self) -> tuple[Finding, ...]:
        """Returns a finding for each rule."""
        found = []
        for rule, (holds, remedy) in RULES.items():
            if rule not in self.seen or (rule in INVARIANCES and self.seen["seed"]):
                found.append(
                    Finding(rule, "not checked", f"{holds}: cannot be judged before other failures are mended")
                )
            else:
                problem = self.seen[rule]
                found.append(Finding(rule, "FAILED", f"{problem}; {remedy}") if problem else Finding(rule, "ok", holds))
        return tuple(found)


def _judge(method: Method, written: Written, setting: Setting, report: _Report) -> float:
    """Runs ``method`` on one forest under each condition, notes what is seen, and returns the seconds of the first run."""
    report.where = f"{written.forest.name}, {setting}: "
    told = side_information(about(method, "it"), setting, written.folder, written.truth)
    models, tables = written.models.with_given(told), written.tables()
    first = run = _run(method, models)
    if run.prediction is None:  # is it the confidence alone?
        method = _unsure(method)
        run = _run(method, models)
    answer = run.prediction
    report.note("answer", first.error if answer is None else None)
    if answer is None:
        return first.seconds
    report.note("confidence", first.error)
    if told.trees is not None:
        report.note("known-trees", _crossing(answer, told.trees))
    digests = {checkpoint.id: checkpoint.digest for checkpoint in (*models.checkpoints, *written.others.checkpoints)}

    def same(rule: str, run: Attempt) -> bool:
        problem = f"failed now: {run.error}" if run.prediction is None else _difference(answer, run.prediction, digests)
        return report.note(rule, problem)

    if same("seed", _run(method, models)):
        same("global-state", _run(method, models, state=2))
        same("ids", _run(_renamed(method), models))
        same("listing", _run(method, written.others.with_given(told.relabel(written.names))))
    report.note("weights", None if written.tables() == tables else "the models' tables of tensors have changed")
    return first.seconds


def _unsure(method: Method) -> Method:
    """Returns the method without the confidence that it gives."""
    return lambda models, rng: replace(method(models, rng), confidence=None)


def _renamed(method: Method) -> Method:
    """Returns the method as it answers under other ids, in the same random state."""

    def answer(models: ModelSet, rng: np.random.Generator) -> Prediction:
        names = {node: opposite(node) for node in models.ids}
        return method(models.relabel(names), rng).relabel({new: old for old, new in names.items()})

    return answer


def _run(method: Method, models: ModelSet, state: int = 1) -> Attempt:
    """Returns what the method answers, the seed always the same and the global random generators in a given state."""
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
    return try_to_predict(method, models, seed=0)


def _crossing(answer: Prediction, trees: Mapping[NodeId, int]) -> str | None:
    """Returns how ``answer`` departs from the partition it was told."""
    crossing = sum(trees[parent] != trees[child] for parent, child in answer.graph.edges)
    if crossing:
        return f"{crossing} of {len(answer.graph.edges)} edges join different trees"
    roots = Counter(trees[root] for root in answer.graph.roots if root not in answer.abstained)
    wrong = max(roots.values(), default=0)
    return f"a told tree has {wrong} roots" if wrong > 1 else None


def _difference(one: Prediction, two: Prediction, digests: Mapping[NodeId, str]) -> str | None:
    """Returns how two answers differ. Models go by their weights, since nothing tells identical ones apart."""

    def edges(answer: Prediction) -> list[tuple[str, str, float]]:
        sure = answer.confidence or {}
        return sorted((digests[edge[0]], digests[edge[1]], sure.get(edge, -1.0)) for edge in answer.graph.edges)

    def labels(answer: Prediction) -> list[list[str]]:
        trees = answer.trees or {}
        return sorted(sorted(digests[node] for node in trees if trees[node] == label) for label in set(trees.values()))

    drawn = [Counter(edge[:2] for edge in edges(answer)) for answer in (one, two)]
    if drawn[0] != drawn[1]:
        return f"edges gone: {(drawn[0] - drawn[1]).total()}, edges new: {(drawn[1] - drawn[0]).total()}"
    if not np.allclose([edge[2] for edge in edges(one)], [edge[2] for edge in edges(two)], rtol=0, atol=1e-6):
        return "confidences differ"
    if labels(one) != labels(two):
        return "tree labels differ"
    abstained = [sorted(digests[node] for node in answer.abstained) for answer in (one, two)]
    if abstained[0] != abstained[1]:
        return "abstentions differ"
    relations = [
        sorted((digests[node], kind) for node, kind in (answer.relations or {}).items()) for answer in (one, two)
    ]
    return "relations differ" if relations[0] != relations[1] else None


def _from_here_on() -> int:
    """Returns the largest resident memory of this process in bytes; on Linux, that of what follows is measured from here on."""
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
    except Exception as error:  # properties are foreign code and may raise anything
        return describe_error(error)
    return None


def _content(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): sha256_of(path) for path in home.rglob("*") if path.is_file()}


@contextmanager
def _apart(place: Path) -> Iterator[Path]:
    """Yields a folder, the current one inside, with a cache elsewhere; puts back global random states and standard output."""
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
            warnings.simplefilter("ignore", MothrWarning)  # some forests are odd on purpose
            yield home
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        os.environ.pop("MOTHR_CACHE", None)
        if cache is not None:
            os.environ["MOTHR_CACHE"] = cache
