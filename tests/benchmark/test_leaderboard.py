import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mothr.benchmark import metrics
from mothr.benchmark.drawing import compare
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.leaderboard import write_markdown, write_page
from mothr.benchmark.results import Result, write
from mothr.benchmark.storage import sha256_of, write_json

EVIL = "</script><script>alert('&')</script>|*`"


def random_forest(rng, nodes):
    """A forest of random trees on ``nodes``: some roots, and anyone's parent is an earlier node."""
    order = rng.permutation(list(nodes)).tolist()
    return ModelGraph({node: (order[rng.integers(i)],) if i and rng.random() < 0.9 else () for i, node in enumerate(order)})


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
        write_json(place / "manifest.json", {"name": split})
        nodes = {node: {"parents": list(parents), "task": EVIL, "relation": None} for node, parents in TRUTH.parents.items()}
        write_json(place / "truth.json", {"schema_version": 1, "split": split, "version": 1, "nodes": nodes})
    answer = {"status": "failed", "error": EVIL, "metrics": {}, "per_tree": []}
    if predicted:
        scored = {"metrics": metrics.score(TRUTH, predicted), "per_tree": metrics.per_tree(TRUTH, predicted)}
        answer = {"status": "ok", "parents": predicted.to_json(), "seconds": 1.0, **scored}
    fields = {
        "split": split, "split_version": 1, "manifest_sha256": sha256_of(place / "manifest.json"), "setting": "open",
        "method": method, "method_version": "1", "parameters": {}, "seed": 0, "told": [], "device": "cpu", "mothr_version": "0.1.0",
        "commit": None, "dirty": None, "packages": {"python": "3.12.0"}, "date": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    record = Result(**fields | answer | changes)
    write(record, folder)
    return record


@pytest.fixture
def filled(tmp_path):
    """A results folder with good, random, null, failed and gappy methods on two splits."""
    rng = np.random.default_rng(0)
    put(tmp_path, "linea", TRUTH)
    put(tmp_path, "linea", TRUTH, setting="known-trees", told=["trees"])
    put(tmp_path, "null-random-tree", random_forest(rng, TRUTH.nodes))
    put(tmp_path, EVIL, random_forest(rng, TRUTH.nodes), parameters={"note": EVIL}, told=["tree_count"])
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
        return [attrs for name, attrs in self.tags if name == tag and all(attrs.get(key) == value for key, value in wanted.items())]


def page_of(folder):
    path = write_page(folder, folder / "page")
    assert path == folder / "page" / "index.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def data_of(page):
    return json.loads(next(text for text in page.texts["script"] if text.startswith("{")))


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
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "action")]
    assert all(link.startswith("data:") for link in links)
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    assert not re.search(r"@import|url\(|fetch\(|innerHTML|eval\(", text)


def test_names_from_outside_stay_text(filled):
    text, page = page_of(filled)
    assert "<script>alert" not in text
    assert len(page.of("script")) == 2
    assert any(EVIL in cell for cell in page.texts["th"])
    assert data_of(page)["details"]
    assert any(EVIL in run[3] for one in data_of(page)["details"] for run in one["runs"] if run[3])


def test_every_board_is_a_section_with_a_row_for_each_method(filled):
    _, page = page_of(filled)
    assert len(page.of("section")) == 3
    assert {(one["data-split"], one["data-setting"]) for one in page.of("section")} == {
        ("tiny-v1", "open"), ("tiny-v1", "known-trees"), ("other-v1", "open"),
    }  # fmt: skip
    data = data_of(page)
    rows = [attrs for attrs in page.of("tr") if "data-row" in attrs]
    assert sorted(int(row["data-row"]) for row in rows) == list(range(len(data["table"]))) == list(range(7))
    kinds = [data["table"][int(row["data-row"])][data["columns"].index("kind")] for row in rows]
    assert [row["class"] for row in rows] == [f"row {kind}" for kind in kinds]


def test_each_sortable_column_is_a_button_in_a_header_that_says_its_order(filled):
    _, page = page_of(filled)
    boards = len(page.of("section"))
    assert len(page.of("th", **{"aria-sort": "descending"})) == boards
    sortable = [attrs for attrs in page.of("th") if "aria-sort" in attrs]
    assert len(sortable) == len([attrs for attrs in page.of("button") if "data-first" in attrs]) == 11 * boards


def test_edges_in_the_page_are_those_of_the_drawing(filled):
    wrong = {"0": ("0.0",), "0.0": (), "1.0.0": ("1.1",), "2": ("3.1",), "4.2": ()}
    record = put(filled, "seen", ModelGraph({**TRUTH.parents, **wrong}), abstained=["0.1"])
    _, page = page_of(filled)
    data = data_of(page)
    forest = data["forests"]["tiny-v1"]
    ids, edges = forest["ids"], forest["edges"]
    row = next(i for i, values in enumerate(data["table"]) if values[data["columns"].index("method")] == "seen")
    shown = data["details"][row]["forest"]
    found = [
        ({"r": "right", "v": "reversed", "m": "missed"}[letter], ids[edges[2 * i]], ids[edges[2 * i + 1]])
        for i, letter in enumerate(shown["edges"])
    ]
    found += [("wrong", ids[shown["wrong"][i]], ids[shown["wrong"][i + 1]]) for i in range(0, len(shown["wrong"]), 2)]
    predicted = record.prediction().graph
    assert found == [(edge.kind, edge.parent, edge.child) for edge in compare(TRUTH, predicted)]
    assert {kind for kind, _, _ in found} == {"right", "reversed", "missed", "wrong"}
    assert {ids[position] for position in shown["roots"]} == set(predicted.roots)
    assert [ids[position] for position in shown["abstained"]] == ["0.1"]
    assert [forest["tree"][i] for i in range(len(ids))] == [int(node[0]) for node in ids]
    assert all(forest["depth"][i] == node.count(".") for i, node in enumerate(ids))


def test_a_hidden_split_has_a_board_but_no_forest(filled):
    (filled / "other-v1" / "truth.json").unlink()
    _, page = page_of(filled)
    assert set(data_of(page)["forests"]) == {"tiny-v1"}
    assert len(page.of("section")) == 3


def test_the_page_is_always_the_same_and_stays_small(filled):
    first, _ = page_of(filled)
    assert page_of(filled)[0] == first
    rng = np.random.default_rng(2)
    for number in range(10):
        put(filled, f"method-{number}", random_forest(rng, TRUTH.nodes), parameters={"weight": number / 10})
    grown = len(page_of(filled)[0]) - len(first)
    assert len(first) + 36 * grown < 2_000_000  # 360 rows: 60 methods on 6 boards


def test_markdown_has_a_table_for_each_board_with_every_row_whole(filled):
    path = filled / "README.md"
    write_markdown(filled, path)
    text = path.read_text(encoding="utf-8")
    assert text.count("\n## ") == 3
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 7 + 2 * 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {14}
    assert re.search(r"^\| 1 \| linea \| nothing \| 1\.000 \(1\.00–1\.00\) \| 1\.000 \|", text, re.MULTILINE)
    assert re.search(r"^\| – \| \*null-random-tree\* \(null\) \|", text, re.MULTILINE)
    assert "- gappy: seed 0 missing" in text
    assert "Not run here: " in text
    assert "<script>" not in text


def test_markdown_says_what_a_split_took_to_make(filled, tmp_path):
    folder = next(place for place in sorted(filled.iterdir()) if place.is_dir())
    (folder / "made.md").write_text("Made in a minute.\n")
    write_markdown(filled, tmp_path / "board.md")
    (folder / "made.md").unlink()
    assert "Made in a minute." in (tmp_path / "board.md").read_text()


@pytest.mark.parametrize("make", [write_page, write_markdown])
def test_a_folder_without_results_is_refused_with_the_remedy(tmp_path, make):
    with pytest.raises(MothrError, match="holds no results; run `mothr run"):
        make(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("content", [[], {"nodes": []}, {"nodes": {"a": {}}}, {"nodes": {"a": {"parents": ["z"]}}}])
def test_a_faulty_truth_is_refused_by_name(filled, content):
    write_json(filled / "tiny-v1" / "truth.json", content)
    with pytest.raises(MothrError, match=r"tiny-v1.truth\.json"):
        write_page(filled, filled / "page")
