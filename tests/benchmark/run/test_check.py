"""Every registered method passes; a method that breaks one rule fails that one and no other."""

import os
import random
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.run.check import RULES, check_method
from mothr.benchmark.run.registry import find_method, method_names

GENERATOR = np.random.default_rng(7)
SOURCE = """
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction

def across(models, rng):
    print("so it goes")
    first, *rest = models.ids
    return Prediction(ModelGraph.from_edges(models.ids, [(first, other) for other in rest]))
"""


def parts(models):
    given = models.given.trees or dict.fromkeys(models.ids, 0)
    return [[node for node in models.ids if given[node] == label] for label in sorted(set(given.values()))]


def stars(models, choose):
    """A legal prediction: in each part, all models are children of the model with the index ``choose(part)``."""
    pairs = []
    for part in parts(models):
        root = part[choose(part)]
        pairs += [(root, node) for node in part if node != root]
    return Prediction(ModelGraph.from_edges(models.ids, pairs))


def first(part):
    return 0


def check(method, **more):
    """Returns the status and the text of each rule."""
    result = check_method(method, **more)
    assert [finding.rule for finding in result] == list(RULES)
    return {finding.rule: finding.status for finding in result}, {finding.rule: finding.text for finding in result}


def failed(status):
    return [rule for rule in status if status[rule] == "FAILED"]


@pytest.mark.parametrize("name", method_names())
def test_every_registered_method_keeps_every_rule(name):
    status, text = check(find_method(name))
    assert set(status.values()) == {"ok"}, text


# --- methods that keep the rules ---


def test_drawing_from_the_given_generator_is_allowed():
    status, text = check(lambda models, rng: stars(models, lambda part: int(rng.integers(len(part)))))
    assert set(status.values()) == {"ok"}, text


def test_a_model_that_is_abstained_on_is_no_second_root():
    def unsure(models, rng):
        prediction = stars(models, first)
        doubtful = prediction.graph.edges[-1:]
        kept = [edge for edge in prediction.graph.edges if edge not in doubtful]
        return Prediction(ModelGraph.from_edges(models.ids, kept), abstained=frozenset(child for _, child in doubtful))

    status, text = check(unsure)
    assert status["known-trees"] == "ok", text


def test_the_order_of_identical_models_is_not_judged():
    """Only the ids of two copies differ. So the choice of the parent among copies is not judged."""

    def smaller_of_the_copies(models, rng):
        digests = [checkpoint.digest for checkpoint in models.checkpoints]
        copies = [node for node, digest in zip(models.ids, digests, strict=True) if digests.count(digest) > 1]
        return stars(models, lambda part: part.index(min(copies)) if copies else 0)

    status, text = check(smaller_of_the_copies)
    assert set(status.values()) == {"ok"}, text


@dataclass(frozen=True)
class Demanding:
    """Checks that it is given what it needs and no more."""

    needs: ClassVar[frozenset[str]] = frozenset({"tree_count", "metadata", "truth"})

    def __call__(self, models, rng):
        given = models.given
        assert set(given.metadata) == set(given.truth.nodes) == set(models.ids)
        assert given.tree_count == len(given.truth.trees)
        return Prediction(given.truth)


def test_methods_are_given_what_they_declare():
    status, text = check(Demanding())
    assert set(status.values()) == {"ok"}, text
    _, text = check(replace_needs(Demanding, "truth"))
    assert "TypeError: 'NoneType' object is not iterable" in text["prediction"]


def replace_needs(kind, *kept):
    return type(kind.__name__, (kind,), {"needs": frozenset(kept)})()


# --- methods that break one ---


@dataclass(frozen=True)
class Unrecordable:
    scale: object = field(default_factory=object)

    def __call__(self, models, rng):
        raise AssertionError("it was run")


@dataclass(frozen=True)
class Presumptuous:
    needs: ClassVar[frozenset[str]] = frozenset({"truths"})

    def __call__(self, models, rng):
        raise AssertionError("it was run")


class Brittle:
    @property
    def needs(self):
        return {}["need"]

    def __call__(self, models, rng):
        raise AssertionError("it was run")


@dataclass
class Learning:
    calls: int = 0

    def __call__(self, models, rng):
        self.calls += 1
        return stars(models, first)


def leaves_out(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids[1:], ())))


def leaves_the_odd_out(models, rng):
    return stars(models, first) if len(models.shapes) == 7 else leaves_out(models, rng)


def raises(models, rng):
    return {}["nothing here"]


def speaks(models, rng):
    return "all of them"


def confident(models, value, reverse=False):
    prediction = stars(models, first)
    return replace(prediction, confidence={edge[::-1] if reverse else edge: value for edge in prediction.graph.edges})


def joins_all(models, rng):
    return Prediction(ModelGraph.from_edges(models.ids, [(models.ids[0], node) for node in models.ids[1:]]))


def roots_all(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids, ())))


def throws_its_own_coin(models, rng):
    return stars(models, lambda part: int(GENERATOR.integers(len(part))))


def labels_by_its_own_coin(models, rng):
    labels = {node: int(GENERATOR.integers(2)) for node in models.ids}
    return replace(stars(models, first), trees=labels)


def smallest_name(models, rng):
    return stars(models, lambda part: part.index(min(part)))


def surer_of_small_names(models, rng):
    prediction = stars(models, first)
    return replace(prediction, confidence={edge: int(edge[1], 16) / 2**48 for edge in prediction.graph.edges})


def abstains_by_name(models, rng):
    return replace(stars(models, first), abstained=frozenset([min(models.ids)]))


def smallest_file(models, rng):
    files = {checkpoint.id: next(iter(checkpoint.tensors.values())).file.name for checkpoint in models.checkpoints}
    return stars(models, lambda part: part.index(min(part, key=files.__getitem__)))


def overwrites(models, rng):
    next(iter(models.checkpoints[0].tensors.values())).file.write_bytes(b"mine")
    return stars(models, first)


def forgets_tensors(models, rng):
    models.checkpoints[0].tensors.pop("vit.encoder.layer.0.layernorm_before.weight", None)
    return stars(models, first)


def notes_here(models, rng):
    Path("notes.txt").write_text("mine")
    return stars(models, first)


def notes_beside_the_weights(models, rng):
    (next(iter(models.checkpoints[0].tensors.values())).file.parent / "notes.txt").write_text("mine")
    return stars(models, first)


BROKEN = [
    (Unrecordable(), "fields", "Object of type object is not JSON serializable"),
    (Presumptuous(), "fields", "unknown need 'truths'; did you mean truth"),
    (Brittle(), "fields", "KeyError: 'need' (test_check.py, line "),
    (Learning(), "fields", "its fields changed while it ran"),
    (leaves_out, "prediction", "one model, known-trees: the method's prediction leaves out 1 model"),
    (leaves_the_odd_out, "prediction", "Llama-like, known-trees: the method's prediction leaves out 1 model"),
    (raises, "prediction", "KeyError: 'nothing here' (test_check.py, line "),
    (speaks, "prediction", "the method returned a str"),
    (lambda models, rng: confident(models, float("nan")), "confidence", "is nan; it must be in [0, 1]"),
    (lambda models, rng: confident(models, 1.5), "confidence", "is 1.5; it must be in [0, 1]"),
    (lambda models, rng: confident(models, 0.5, reverse=True), "confidence", "which is no predicted edge"),
    (joins_all, "known-trees", "two trees, known-trees: 4 of 9 edges join different trees"),
    (roots_all, "known-trees", "two models, known-trees: a given tree has 2 roots"),
    (throws_its_own_coin, "seed", "edges gone: "),
    (labels_by_its_own_coin, "seed", "tree labels differ"),
    (lambda models, rng: stars(models, lambda part: random.randrange(len(part))), "global-state", "edges gone: "),
    (lambda models, rng: stars(models, lambda part: np.random.randint(len(part))), "global-state", "edges gone: "),
    (lambda models, rng: stars(models, lambda part: int(torch.randint(len(part), ()))), "global-state", "edges gone: "),
    (smallest_name, "ids", "edges gone: "),
    (surer_of_small_names, "ids", "confidences differ"),
    (abstains_by_name, "ids", "abstentions differ"),
    (smallest_file, "listing", "edges gone: "),
    (overwrites, "weights", "23 model files have changed"),
    (forgets_tensors, "weights", "tables of tensors have changed"),
    (notes_here, "files", "it wrote here/notes.txt"),
    (notes_beside_the_weights, "files", "it wrote forest-0/first/notes.txt, forest-0/second/notes.txt"),
]


@pytest.mark.parametrize(("method", "rule", "seen"), BROKEN)
def test_a_method_that_breaks_one_rule_fails_it_and_no_other(method, rule, seen):
    status, text = check(method)
    assert failed(status) == [rule], text
    assert seen in text[rule]
    assert text[rule].endswith(RULES[rule][1])


def test_a_rule_that_cannot_be_judged_is_not_checked():
    status, _ = check(raises)
    assert {rule for rule in status if status[rule] == "ok"} == {"fields", "weights", "files", "time", "memory"}
    status, _ = check(throws_its_own_coin)
    assert status["known-trees"] == "ok"
    assert {rule for rule in status if status[rule] == "not checked"} == {"global-state", "ids", "listing"}
    assert set(check(Brittle())[0].values()) == {"FAILED", "not checked"}


def test_a_slow_method_is_stopped():
    calls = []

    def slow(models, rng):
        calls.append(len(models))
        return stars(models, first)

    status, text = check(slow, seconds=0.0)
    assert failed(status) == ["time"]
    assert "of 0 s allowed" in text["time"]
    assert set(calls) == {1}


def test_a_method_that_holds_too_much_is_stopped_however_soon_it_lets_go():
    calls = []

    def greedy(models, rng):
        calls.append(len(models))
        np.ones(3 << 23).sum()  # 192 MiB
        return stars(models, first)

    status, text = check(greedy, memory=100 << 20)
    assert failed(status) == ["memory"]
    assert re.search(
        r"one model, known-trees: stopped when it held (19|20)\d MiB, of 100 MiB allowed; read one tensor",
        text["memory"],
    )
    assert set(calls) == {1}


# --- what the check itself leaves behind ---


def test_the_check_leaves_everything_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), dict(os.environ)

    before = states()
    check(find_method("linea"))
    check(raises)
    assert states() == before
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []


# --- the command ---


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder on the path, its module ``lab_of_checks`` not yet imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lab_of_checks", raising=False)
    return tmp_path / "lab_of_checks.py"


def test_the_command_prints_one_line_for_each_rule_and_exits_with_the_verdict(mothr, lab):
    lab.write_text(SOURCE)
    good = mothr("check", "null-star")
    assert good.code == 0
    assert good.out.splitlines()[-1] == "null-star: it keeps the rules"
    bad = mothr("check", "lab_of_checks:across")
    assert bad.code == 1
    assert len(bad.out.splitlines()) == len(RULES) + 2
    assert "known-trees   FAILED  two trees, known-trees: 4 of 9 edges join different trees; span each part" in bad.out
    assert bad.out.splitlines()[-1] == f"lab_of_checks:across: 1 of {len(RULES)} rules failed"
    assert "so it goes" in bad.err
    read = mothr("check", "lab_of_checks:across", "--json")
    assert read.code == 1
    assert read.json["ok"] is False
    assert [row["rule"] for row in read.json["rules"] if row["status"] == "FAILED"] == ["known-trees"]


def test_the_command_takes_fields(mothr):
    assert mothr("check", "null-mst-random-root", "--set", "layers=attention").code == 0
    assert "unknown field" in mothr("check", "null-mst-random-root", "--set", "layer=all").err


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def broken(:", "invalid syntax (lab_of_checks.py, line 1)"),
        ("scale = 1\nwidth = scale / 0", "ZeroDivisionError: division by zero (lab_of_checks.py, line 2)"),
        ("", "has no attribute 'method'"),
    ],
)
def test_a_module_that_fails_when_imported_is_one_line(mothr, lab, source, expected):
    lab.write_text(source)
    done = mothr("check", "lab_of_checks:method")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: method 'lab_of_checks:method' cannot be imported: ")
    assert expected in done.err
    assert len(done.err.splitlines()) == 1
