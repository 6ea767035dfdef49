"""The data of the pages, and how pages are put together."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mothr.benchmark.board.board import TREE_METRICS, board
from mothr.benchmark.board.html import INDEX_SCRIPTS, SCRIPTS, SPLIT_SCRIPTS, STATIC, STYLES
from mothr.benchmark.board.leaderboard import write_both, write_markdown, write_pages
from mothr.benchmark.board.pairs import SplitPairs, TreePairs
from mothr.benchmark.board.pairs import write as write_pairs
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.store import read_all
from mothr.benchmark.storage import sha256_of, write_json


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


def page_of(folder, split=""):
    """The text and the tags of the index, or of a split's page."""
    path = write_pages(folder, folder / "page")
    assert path == folder / "page" / "index.html"
    text = (path.parent / split / "index.html").read_text(encoding="utf-8")
    return text, Page(text)


def data_of(page):
    return json.loads(next(text for text in page.texts["script"] if text.startswith("{")))


def rows_of(data):
    """(row, its board, its method) of each row of a page."""
    return [(row, board, data["methods"][row["method"]]) for board in data["boards"] for row in board["rows"]]


def details_of(data, label):
    """What a split's page shows of the first row of a method."""
    return next(data["details"][row["id"]] for row, _, method in rows_of(data) if method["label"] == label)


@pytest.mark.parametrize("split", ["", "tiny-v1"])
def test_a_page_allows_its_own_style_and_script_by_hash_and_nothing_else(filled, split):
    _, page = page_of(filled, split)
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    for rule, text in (("style-src", page.texts["style"][0]), ("script-src", page.texts["script"][1])):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert [attrs.get("type") for attrs in page.of("script")] == ["application/json", None]


@pytest.mark.parametrize("split", ["", "tiny-v1"])
def test_a_page_loads_nothing(filled, split):
    text, page = page_of(filled, split)
    links = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "action")
    ]
    assert all(link.startswith("data:") for link in links if link != "../index.html")
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    assert not re.search(r"@import|url\((?!#)|fetch\(|innerHTML|eval\(", text)


def test_scripts_and_styles_hold_no_template_signs():
    files = sorted(STATIC.iterdir())
    assert {path.name for path in files} == {*STYLES, *SCRIPTS, *INDEX_SCRIPTS, *SPLIT_SCRIPTS}
    assert not [path.name for path in files if re.search(r"\{%|\{#|\{\{(?!\s)", path.read_text(encoding="utf-8"))]


def test_names_from_outside_stay_text(filled, sample):
    for split in ("", "tiny-v1"):
        text, page = page_of(filled, split)
        assert "<script>alert" not in text
        assert len(page.of("script")) == 2
        data = data_of(page)
        assert sample.evil in {method["method"] for method in data["methods"]}
    assert any(sample.evil in node["note"] for tree in data["trees"] for node in tree["nodes"])
    runs = [run for details in data["details"].values() for run in details["runs"] if run["status"] != "ok"]
    assert [(run["status"], run["error"]) for run in runs] == [("failed", sample.evil)]


def test_the_index_holds_every_row_of_the_tidy_table_in_words(filled):
    data = data_of(page_of(filled)[1])
    assert {(board["folder"], board["setting"], board["family"]) for board in data["boards"]} == {
        ("tiny-v1", "open", "vit"), ("tiny-v1", "known-trees", "vit"), ("other-v1", "open", "vit"),
    }  # fmt: skip
    expected = board(read_all(filled)).set_index("id")
    result = {row["id"]: (row, own_board, method) for row, own_board, method in rows_of(data)}
    assert set(result) == set(expected.index)
    for row_id, wanted in expected.iterrows():
        row, own_board, method = result[row_id]
        names = ("method", "label", "kind", "version")
        assert [method[name] for name in names] == [wanted[name.replace("version", "method_version")] for name in names]
        assert json.dumps(method["parameters"], sort_keys=True) == wanted["parameters"]
        assert (own_board["split"], own_board["setting"]) == (wanted["split"], wanted["setting"])
        assert row.get("rank") == (None if pd.isna(wanted["rank"]) else wanted["rank"])
        assert [row[name] for name in ("seeds", "failed", "standing")] == [
            wanted[name] for name in ("seeds", "failed", "standing")
        ]
        main = row["scores"]["edge_f1"]
        interval = [None if pd.isna(wanted[f"edge_f1_{end}"]) else wanted[f"edge_f1_{end}"] for end in ("low", "high")]
        assert (
            [main.get("low"), main.get("high")] == pytest.approx(interval, abs=6e-5)
            if interval[0] is not None
            else [None, None]
        )
        assert {name: score["mean"] for name, score in row["scores"].items() if "mean" in score} == pytest.approx(
            {name: wanted[name] for name in TREE_METRICS if not pd.isna(wanted[name])}, abs=6e-5
        )


def test_a_split_s_page_has_all_intervals_and_the_scores_of_each_tree(filled):
    data = data_of(page_of(filled, "tiny-v1")[1])
    expected = board(read_all(filled)).set_index("id")
    assert {own_board["folder"] for own_board in data["boards"]} == {"tiny-v1"}
    for row, own_board, _ in rows_of(data):
        wanted = expected.loc[row["id"]]
        for name, score in row["scores"].items():
            assert score.get("trees", own_board["trees"]) == wanted[f"{name}_n"]
            assert ("low" in score) == (not pd.isna(wanted[f"{name}_low"]))
    details = details_of(data, "null-random-tree")
    row = expected.query("method == 'null-random-tree'").iloc[0]
    for name, values in details["tree_scores"].items():
        assert np.nanmean(np.array(values, dtype=float)) == pytest.approx(row[name], abs=0.0006)


def test_each_forest_and_prediction_can_be_read_back(filled, sample):
    wrong = {"0": ("0.0",), "0.0": (), "1.0.0": ("1.1", "1.2"), "2": ("3.1", "new"), "4.2": (), "new": ()}
    predicted = ModelGraph({**sample.truth.parents, **wrong})
    sure = {"1.0.0": {"1.1": 0.25, "1.2": 1.0}, "0.1": {"0": 0.5}}
    sample.put(
        filled, "seen", predicted, abstained=["4.2"], confidence=sure, relations={"1.0.0": "merge", "0.1": "finetune"}
    )
    data = data_of(page_of(filled, "tiny-v1")[1])
    nodes = {node["id"]: (number, node) for number, tree in enumerate(data["trees"]) for node in tree["nodes"]}
    assert {name: node["parents"] for name, (_, node) in nodes.items()} == sample.truth.to_json()
    assert all(number == int(name[0]) and node["depth"] == name.count(".") for name, (number, node) in nodes.items())
    drawing = data["drawings"][details_of(data, "seen")["drawing"]]
    edges = [*drawing["correct"], *([edge["parent"], edge["child"]] for edge in drawing["wrong_parent"])]
    edges += [[edge["parent"], edge["child"]] for edge in drawing["wrong_tree"]]
    edges += [[child, parent] for parent, child in drawing["reversed"]]
    assert sorted(edges) == sorted([parent, child] for parent, child in predicted.edges if child != "new")
    true = [*drawing["correct"], *drawing["reversed"], *drawing["missing"]]
    assert sorted(true) == sorted(map(list, sample.truth.edges))
    assert {edge["parent"] for edge in drawing["wrong_tree"]} == {"3.1", "new"}
    assert {edge["parent"] for edge in drawing["wrong_parent"]} == {"1.1", "1.2"}
    assert all(edge["path"].startswith("M") for edge in [*drawing["wrong_tree"], *drawing["wrong_parent"]])
    assert (drawing["seed"], drawing["abstained"]) == (0, ["4.2"])
    assert drawing["predicted_roots"] == ["0.0", "1", "3", "4"]
    assert drawing["confidence"] == sure
    assert drawing["relations"] == {"1.0.0": "merge", "0.1": "finetune"}
    whole = data["drawings"][details_of(data, "linea")["drawing"]]
    assert (len(whole["correct"]), whole["missing"], whole["wrong_tree"]) == (len(sample.truth.edges), [], [])
    assert "drawing" not in details_of(data, "broken")
    assert len(data["drawings"]) == 5  # that of linea is there once, though two boards show it


def test_a_hidden_split_has_boards_but_no_forest(filled):
    (filled / "other-v1" / "truth.json").unlink()
    data = data_of(page_of(filled, "other-v1")[1])
    assert "trees" not in data
    assert data["drawings"] == []
    assert len(data["boards"]) == 1
    assert "trees" in data_of(page_of(filled, "tiny-v1")[1])


def test_confidence_stands_against_correctness_in_tenths(filled, sample):
    predicted = ModelGraph({**sample.truth.parents, "0.0": ("1",)})
    sure = {"0.0": {"1": 0.95}, "0.1": {"0": 0.9}, "0.2": {"0": 1.0}, "0.3": {"0": 0.31}}
    sample.put(filled, "sure", predicted, confidence=sure)
    for split in ("", "tiny-v1"):
        [row] = [row for row, _, method in rows_of(data_of(page_of(filled, split)[1])) if method["label"] == "sure"]
        assert row["reliability"] == [
            {"tenth": 3, "edges": 1, "confidence_sum": 0.31, "correct": 1},
            {"tenth": 9, "edges": 3, "confidence_sum": 2.85, "correct": 2},
        ]


def test_what_lies_between_models_is_in_the_page_where_it_is_known(filled, sample):
    data = data_of(page_of(filled, "tiny-v1")[1])
    assert "pair_sources" not in data
    assert not [tree for tree in data["trees"] if "distances" in tree or "evidence" in tree]
    folder, rng = filled / "tiny-v1", np.random.default_rng(4)
    trees = [
        TreePairs(
            ids=sorted(tree),
            distances=[None, *(1 + rng.integers(900, size=209)).tolist()],
            evidence=[None, *rng.normal(size=209).round(4)],
        )
        for tree in sample.truth.trees
    ]
    manifest = sha256_of(folder / "manifest.json")
    known = {
        "split": "tiny",
        "version": 1,
        "distance": "relative",
        "direction": sample.evil,
        "layers": "body",
        "trees": trees,
    }
    path = write_pairs(SplitPairs(manifest_sha256=manifest, **known), folder)
    text, page = page_of(filled, "tiny-v1")
    result = data_of(page)
    assert "<script>alert" not in text
    assert result["pair_sources"] == {"distance": "relative", "direction": sample.evil, "layers": "body"}
    assert result["drawings"] == data["drawings"]
    upper = np.triu_indices(21, 1)
    for drawn, tree in zip(result["trees"], trees, strict=True):
        distances, evidence = (np.array(drawn[name], dtype=float) for name in ("distances", "evidence"))
        assert np.array_equal(distances[upper], np.array(tree.distances, dtype=float), equal_nan=True)
        assert np.array_equal(evidence[upper], np.array(tree.evidence, dtype=float), equal_nan=True)
        assert np.array_equal(distances, distances.T, equal_nan=True)
        assert np.array_equal(evidence, -evidence.T, equal_nan=True)
    (folder / "truth.json").rename(folder / "hidden")
    assert "pair_sources" not in data_of(page_of(filled, "tiny-v1")[1])
    (folder / "hidden").rename(folder / "truth.json")
    write_pairs(SplitPairs(manifest_sha256="0" * 64, **known), folder)
    with pytest.raises(MothrError, match=re.escape(f"{path}: is of the manifest 000000000000")):
        write_pages(filled, filled / "page")


def test_the_regime_map_is_in_the_index_where_there_is_one(filled):
    assert "regime_map" not in data_of(page_of(filled)[1])
    path = filled / "regimes" / "map.csv"
    path.parent.mkdir()
    head = "grouping,regime,direction,accuracy,low,high,trees,edges,apart"
    path.write_text(
        f"{head}\nkind,full,norm,0.75,0.6,0.9,5,100,True\nkind,lora,norm,,,,0,0,False\nkind,full,drift,0.5,,,1,20,False\n"
    )
    result = data_of(page_of(filled)[1])["regime_map"]
    assert result["scores"] == ["norm", "drift"]
    full = [
        {"accuracy": 0.75, "low": 0.6, "high": 0.9, "trees": 5, "edges": 100},
        {"accuracy": 0.5, "trees": 1, "edges": 20},
    ]
    assert result["groups"] == {"kind": {"full": full, "lora": [{"trees": 0, "edges": 0}, None]}}
    assert result["about"] == ""
    path.with_name("about.md").write_text("What it says.\n")
    assert data_of(page_of(filled)[1])["regime_map"]["about"] == "What it says."
    path.write_text("grouping,regime\nkind,full\n")
    with pytest.raises(MothrError, match=r"map\.csv: lacks the column 'direction'"):
        write_pages(filled, filled / "page")


def test_pages_are_always_the_same_and_stay_small(filled, sample):
    first = [page_of(filled, split)[0] for split in ("", "tiny-v1")]
    assert [page_of(filled, split)[0] for split in ("", "tiny-v1")] == first
    rng = np.random.default_rng(2)
    for number in range(20):
        sample.put(
            filled,
            f"method-{number}",
            sample.random_forest(rng, sample.truth.nodes),
            parameters={"weight": number / 10},
        )
    index, split = (
        (len(page_of(filled, split)[0]) - len(before)) / 20
        for split, before in zip(("", "tiny-v1"), first, strict=True)
    )
    assert len(first[0]) + 2500 * index < 2_000_000  # 25 rows on each of 100 boards
    assert len(first[1]) + 60 * split < 1_000_000  # 30 rows of wrong predictions in each setting


def test_pages_and_tables_are_written_at_once_as_each_alone(filled, tmp_path):
    written = write_both(filled, tmp_path / "both")
    page, tables = written.page, written.tables
    assert write_markdown(filled, tmp_path / "tables") == tmp_path / "tables" / "README.md"
    assert page.read_text() == page_of(filled)[0]
    for folder in (".", "tiny-v1", "other-v1"):
        own = (tables.parent / folder / "README.md").read_text()
        assert own == (tmp_path / "tables" / folder / "README.md").read_text()
        assert "nan" not in own


@pytest.mark.parametrize("make", [write_pages, write_markdown])
def test_a_folder_without_results_is_refused_with_the_remedy(tmp_path, make):
    with pytest.raises(MothrError, match="holds no results; run `mothr run"):
        make(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("content", [[], {"nodes": []}, {"nodes": {"a": {}}}, {"nodes": {"a": {"parents": ["z"]}}}])
def test_a_faulty_truth_is_refused_by_name(filled, content):
    write_json(filled / "tiny-v1" / "truth.json", content)
    with pytest.raises(MothrError, match=r"tiny-v1.truth\.json"):
        write_pages(filled, filled / "page")
