import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mothr.benchmark.board.board import board
from mothr.benchmark.board.leaderboard import write_both, write_markdown, write_page
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.board.pairs import write as write_pairs
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import read_all, write
from mothr.benchmark.score import metrics
from mothr.benchmark.storage import sha256_of, write_json

EVIL = "</script><script>alert('&')</script>|*`"


def random_forest(rng, nodes):
    """A forest of random trees on ``nodes``: some roots, and anyone's parent is an earlier node."""
    order = rng.permutation(list(nodes)).tolist()
    return ModelGraph(
        {node: (order[rng.integers(i)],) if i and rng.random() < 0.9 else () for i, node in enumerate(order)}
    )


def true_forest(trees=5):
    """Trees of 1 + 4 + 16 models."""
    parents = {}
    for tree in range(trees):
        parents[f"{tree}"] = ()
        for child in range(4):
            parents[f"{tree}.{child}"] = (f"{tree}",)
            parents |= {f"{tree}.{child}.{leaf}": (f"{tree}.{child}",) for leaf in range(4)}
    return ModelGraph(parents)


TRUTH = true_forest()


def put(folder, method, predicted, split="tiny", **changes):
    """Writes the record of a real scoring of ``predicted``, or of a failure if it is None; returns it."""
    place = folder / f"{split}-v1"
    if not (place / "manifest.json").exists():
        write_json(place / "manifest.json", {"name": split, "family": "vit"})
        nodes = {
            node: {"parents": list(parents), "task": EVIL, "relation": None} for node, parents in TRUTH.parents.items()
        }
        write_json(place / "truth.json", {"schema_version": 1, "split": split, "version": 1, "nodes": nodes})
    answer = {"status": "failed", "error": EVIL, "metrics": {}, "per_tree": []}
    if predicted:
        scored = {"metrics": metrics.score(TRUTH, predicted), "per_tree": metrics.per_tree(TRUTH, predicted)}
        answer = {"status": "ok", "parents": predicted.to_json(), "seconds": 1.0, **scored}
    fields = {
        "split": split, "split_version": 1, "manifest_sha256": sha256_of(place / "manifest.json"), "setting": "open",
        "method": method, "method_version": "1", "parameters": {}, "seed": 0, "kind": "method", "given": [],
        "device": "cpu", "mothr_version": "0.1.0",
        "commit": None, "dirty": None, "packages": {"python": "3.12.0"}, "date": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    record = RunRecord(**fields | answer | changes)
    write(record, folder)
    return record


@pytest.fixture
def filled(tmp_path):
    """A results folder with good, random, null, failed and gappy methods on two splits."""
    rng = np.random.default_rng(0)
    put(tmp_path, "linea", TRUTH)
    put(tmp_path, "linea", TRUTH, setting="known-trees", given=["trees"])
    put(tmp_path, "null-random-tree", random_forest(rng, TRUTH.nodes), kind="null")
    put(tmp_path, EVIL, random_forest(rng, TRUTH.nodes), parameters={"note": EVIL}, given=["tree_count"])
    put(tmp_path, "broken", None)
    put(tmp_path, "gappy", random_forest(rng, TRUTH.nodes), seed=1)
    put(tmp_path, "only-there", random_forest(rng, TRUTH.nodes), split="other")
    return tmp_path


class Page(HTMLParser):
    """Collects the tags, and the text of each script, style, cell and heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], {"script": [], "style": [], "td": [], "th": [], "h2": []}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.texts:
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def of(self, tag, **wanted):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key) == value for key, value in wanted.items())
        ]


def page_of(folder):
    path = write_page(folder, folder / "page")
    assert path == folder / "page" / "index.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def data_of(page):
    return json.loads(next(text for text in page.texts["script"] if text.startswith("{")))


def unpacked(values):
    """A column of the page's data, texts that are written once put back in their places."""
    return values if isinstance(values, list) else [values["words"][place] for place in values["at"]]


def column(data, name):
    return unpacked(data["table"][name])


def read_back(numbers, base):
    """The parents of each node, those in ``base`` where ``numbers`` say nothing else."""
    found, child = [list(named) for named in base], -1
    for number in numbers:
        if number < 0:
            child -= number
            found[child] = []
        else:
            found[child].append(number)
    return found


def test_the_page_allows_its_own_style_and_script_by_hash_and_nothing_else(filled):
    _, page = page_of(filled)
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    for rule, text in (("style-src", page.texts["style"][0]), ("script-src", page.texts["script"][1])):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert [attrs.get("type") for attrs in page.of("script")] == ["application/json", None]


def test_the_page_loads_nothing(filled):
    text, page = page_of(filled)
    links = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "action")
    ]
    assert all(link.startswith("data:") for link in links)
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    assert not re.search(r"@import|url\(|fetch\(|innerHTML|eval\(", text)


def test_names_from_outside_stay_text(filled):
    text, page = page_of(filled)
    assert "<script>alert" not in text
    assert len(page.of("script")) == 2
    data = data_of(page)
    assert EVIL in column(data, "method")
    assert any(EVIL in note for note in unpacked(data["forests"]["tiny-v1"]["notes"]))
    assert [run[2:] for runs in data["runs"] for run in runs if len(run) > 2] == [["failed", EVIL]]


def test_the_page_holds_every_board_and_the_whole_tidy_table(filled):
    data = data_of(page_of(filled)[1])
    assert {(one["folder"], one["setting"], one["family"]) for one in data["boards"]} == {
        ("tiny-v1", "open", "vit"), ("tiny-v1", "known-trees", "vit"), ("other-v1", "open", "vit"),
    }  # fmt: skip
    assert sorted(row for one in data["boards"] for row in one["rows"]) == list(range(7))
    expected = board(read_all(filled))
    assert list(data["table"]) == list(expected.columns)
    for name in expected:
        known = [None if pd.isna(value) else value for value in expected[name]]
        assert column(data, name) == [round(value, 4) if isinstance(value, float) else value for value in known], name
    scores = unpacked(data["scores"])[column(data, "method").index("null-random-tree")]
    means = [np.nanmean(np.array(values, dtype=float)) / 1000 for values in scores]
    assert means == pytest.approx(
        [expected.set_index("method").loc["null-random-tree", name] for name in data["shown"][0]], abs=0.0006
    )


def test_each_forest_and_answer_can_be_read_back(filled):
    wrong = {"0": ("0.0",), "0.0": (), "1.0.0": ("1.1", "1.2"), "2": ("3.1", "new"), "4.2": (), "new": ()}
    predicted = ModelGraph({**TRUTH.parents, **wrong})
    sure = {"1.0.0": {"1.1": 0.25, "1.2": 1.0}, "0.1": {"0": 0.5}}
    put(filled, "seen", predicted, abstained=["4.2"], confidence=sure, relations={"1.0.0": "merge", "0.1": "finetune"})
    data = data_of(page_of(filled)[1])
    forest = data["forests"]["tiny-v1"]
    ids = forest["ids"]
    truth = read_back(forest["parents"], [[] for _ in ids])
    assert {node: [ids[at] for at in named] for node, named in zip(ids, truth, strict=True)} == TRUTH.to_json()
    assert [forest["tree"][at] for at in range(len(ids))] == [int(node[0]) for node in ids]
    assert all(forest["depth"][at] == node.count(".") for at, node in enumerate(ids))
    seed, differing, abstained, confidence, relations = unpacked(data["forest"])[column(data, "method").index("seen")]
    names = [*ids, "new"]
    found = read_back(differing, truth)
    assert {node: [names[at] for at in named] for node, named in zip(ids, found, strict=True)} == {
        node: list(named) for node, named in predicted.parents.items() if node != "new"
    }
    assert (seed, [ids[at] for at in abstained]) == (0, ["4.2"])
    edges = [(names[parent], ids[child]) for child, named in enumerate(found) for parent in named]
    assert {edge: value for edge, value in zip(edges, confidence, strict=True) if value is not None} == {
        ("1.1", "1.0.0"): 250, ("1.2", "1.0.0"): 1000, ("0", "0.1"): 500,
    }  # fmt: skip
    said = {node: data["relations"][letter] for node, letter in zip(ids, relations, strict=True) if letter != " "}
    assert said == {"1.0.0": "merge", "0.1": "finetune"}
    assert unpacked(data["forest"])[column(data, "method").index("linea")] == [0, []]
    assert unpacked(data["forest"])[column(data, "method").index("broken")] is None


def test_a_hidden_split_has_a_board_but_no_forest(filled):
    (filled / "other-v1" / "truth.json").unlink()
    data = data_of(page_of(filled)[1])
    assert set(data["forests"]) == {"tiny-v1"}
    assert len(data["boards"]) == 3
    assert unpacked(data["forest"])[column(data, "split").index("other")] is None


def test_what_lies_between_models_is_in_the_page_where_it_is_known(filled):
    data = data_of(page_of(filled)[1])
    assert data["pairs"] == {}
    place, rng = filled / "tiny-v1", np.random.default_rng(4)
    trees = [
        TreePairs(
            ids=sorted(tree),
            distances=[None, *rng.random(209).round(4).tolist()],
            evidence=[None, *rng.normal(size=209).round(4)],
        )
        for tree in TRUTH.trees
    ]
    manifest = sha256_of(place / "manifest.json")
    known = {"split": "tiny", "version": 1, "distance": "relative", "direction": EVIL, "layers": "body", "trees": trees}
    path = write_pairs(SplitPairs(manifest_sha256=manifest, **known), place)
    text, page = page_of(filled)
    found = data_of(page)
    assert {name: value for name, value in found.items() if name != "pairs"} == {
        name: data[name] for name in found if name != "pairs"
    }
    assert "<script>alert" not in text
    [(folder, pairs)] = found["pairs"].items()
    assert (folder, pairs["distance"], pairs["direction"], pairs["layers"]) == ("tiny-v1", "relative", EVIL, "body")
    assert pairs["far"] == [tree.distances for tree in trees]
    for says, tree in zip(pairs["says"], trees, strict=True):
        assert says[0] is None
        assert {type(value) for value in says[1:]} == {int}
        assert [value / 10000 for value in says[1:]] == tree.evidence[1:]
    (place / "truth.json").rename(place / "hidden")
    assert data_of(page_of(filled)[1])["pairs"] == {}
    (place / "hidden").rename(place / "truth.json")
    write_pairs(SplitPairs(manifest_sha256="0" * 64, **known), place)
    with pytest.raises(MothrError, match=re.escape(f"{path}: is of the manifest 000000000000")):
        write_page(filled, filled / "page")


def test_the_regime_map_is_in_the_page_where_there_is_one(filled):
    assert data_of(page_of(filled)[1])["map"] is None
    path = filled / "regimes" / "map.csv"
    path.parent.mkdir()
    head = "grouping,regime,direction,accuracy,low,high,trees,edges,apart"
    path.write_text(
        f"{head}\nkind,full,norm,0.75,0.6,0.9,5,100,True\nkind,lora,norm,,,,0,0,False\nkind,full,drift,0.5,,,1,20,False\n"
    )
    found = data_of(page_of(filled)[1])["map"]
    assert found["scores"] == ["norm", "drift"]
    full, lora = [[750, 600, 900, 5, 100], [500, None, None, 1, 20]], [[None, None, None, 0, 0], None]
    assert found["groups"] == {"kind": {"full": full, "lora": lora}}
    assert found["about"] == ""
    path.with_name("about.md").write_text("What it says.\n")
    assert data_of(page_of(filled)[1])["map"]["about"] == "What it says."
    path.write_text("grouping,regime\nkind,full\n")
    with pytest.raises(MothrError, match=r"map\.csv: lacks the column 'direction'"):
        write_page(filled, filled / "page")


def test_the_page_is_always_the_same_and_stays_small(filled):
    first, _ = page_of(filled)
    assert page_of(filled)[0] == first
    rng = np.random.default_rng(2)
    for number in range(20):
        put(filled, f"method-{number}", random_forest(rng, TRUTH.nodes), parameters={"weight": number / 10})
    grown = (len(page_of(filled)[0]) - len(first)) / 20
    assert len(first) + 1400 * grown < 2_000_000  # 20 rows of wrong answers on each of 70 boards


def test_both_are_written_at_once_as_each_alone(filled, tmp_path):
    page, tables = write_both(filled, tmp_path / "both")
    write_markdown(filled, tmp_path / "README.md")
    assert page.read_text() == page_of(filled)[0]
    assert tables.read_text() == (tmp_path / "README.md").read_text()


def test_markdown_has_a_table_for_each_board_with_every_row_whole(filled):
    path = filled / "README.md"
    write_markdown(filled, path)
    text = path.read_text(encoding="utf-8")
    _, _, *boards = text.split("\n## ")
    assert len(boards) == 3
    tables = [line for board in boards for line in board.splitlines() if line.startswith("|")]
    assert len(tables) == 7 + 2 * 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {14}
    assert re.search(r"^\| 1 \| linea \| nothing \| 1\.000 \(0\.48–1\.00\) \| 1\.000 \|", text, re.MULTILINE)
    assert re.search(r"^\| – \| \*null-random-tree\* \(null\) \|", text, re.MULTILINE)
    assert "- gappy: seed 0 missing" in text
    assert "Not run here: " in text
    assert "<script>" not in text


def test_markdown_begins_with_every_method_on_every_split(filled):
    def lines():
        write_markdown(filled, filled / "README.md")
        glance = (filled / "README.md").read_text(encoding="utf-8").split("\n## ")[1]
        return [line.strip("| ").split(" | ") for line in glance.splitlines() if line.startswith("|")]

    head, _, *body = lines()
    assert head == ["Method", "Mean", "other", "tiny"]
    scores = board(read_all(filled)).query("setting == 'open'").set_index(["split", "method"])["edge_f1"]
    assert len(body) == len(scores) == 6  # none ran on both, so none has a mean
    assert {line[1] for line in body} == {"–"}
    assert ["only-there", "–", f"{scores['other', 'only-there']:.2f}", "–"] in body
    assert ["*null-random-tree*", "–", "–", f"{scores['tiny', 'null-random-tree']:.2f}"] in body
    assert body[0] == ["linea", "–", "–", "1.00"]
    put(filled, "only-there", TRUTH)
    mean = (1 + scores["other", "only-there"]) / 2
    assert lines()[2] == ["only-there", f"{mean:.2f}", f"{scores['other', 'only-there']:.2f}", "1.00"]
    write_json(filled / "other-v1" / "superseded.json", {"superseded_by": "other-v2", "reason": "a fault"})
    assert (filled / "README.md").read_text(encoding="utf-8").count("at a glance") == 1
    write_markdown(filled, filled / "README.md")
    assert "at a glance" not in (filled / "README.md").read_text(encoding="utf-8")


def test_markdown_says_what_a_split_took_to_make(filled, tmp_path):
    folder = next(place for place in sorted(filled.iterdir()) if place.is_dir())
    (folder / "made.md").write_text("Made in a minute.\n")
    write_markdown(filled, tmp_path / "board.md")
    (folder / "made.md").unlink()
    found = (tmp_path / "board.md").read_text()
    assert "Made in a minute." in found
    assert "regimes/" not in found


def test_markdown_says_what_the_regime_map_says(filled, tmp_path):
    about = filled / "regimes" / "about.md"
    about.parent.mkdir(exist_ok=True)
    about.write_text("Kurtosis is right now and then.\n")
    write_markdown(filled, tmp_path / "board.md")
    about.unlink()
    assert "Kurtosis is right now and then.\nThe map is [drawn](regimes/map.svg)" in (tmp_path / "board.md").read_text()


@pytest.mark.parametrize("make", [write_page, write_markdown])
def test_a_folder_without_results_is_refused_with_the_remedy(tmp_path, make):
    with pytest.raises(MothrError, match="holds no results; run `mothr run"):
        make(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("content", [[], {"nodes": []}, {"nodes": {"a": {}}}, {"nodes": {"a": {"parents": ["z"]}}}])
def test_a_faulty_truth_is_refused_by_name(filled, content):
    write_json(filled / "tiny-v1" / "truth.json", content)
    with pytest.raises(MothrError, match=r"tiny-v1.truth\.json"):
        write_page(filled, filled / "page")
