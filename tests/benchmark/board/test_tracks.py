"""Tracks: which split belongs to which, the standings of methods, the picture, the page and the command."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import mothr
from mothr.benchmark.board.leaderboard import readme_table, write_both, write_pages
from mothr.benchmark.board.tracks.definition import read
from mothr.benchmark.board.tracks.selection import shown_methods
from mothr.benchmark.board.tracks.standings import tracks_of, without_track
from mothr.benchmark.board.tracks.tables import by_setting
from mothr.benchmark.board.views import read_leaderboard
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.score.statistics import mean_interval
from mothr.benchmark.storage import write_json

RESULTS = Path(__file__).parents[3] / "results"
TWO = """
dev = ["*-dev"]

[[tracks]]
name = "full"
title = "Full"
about = "All weights are trained."
splits = ["*-ft"]

[[tracks]]
name = "hub"
title = "Hub-like"
about = "Drawn from a law."
splits = ["hub-*"]

[[tracks]]
name = "real"
title = "Real"
about = "From elsewhere."
splits = ["real-*", "!real-root-*"]
"""
FIELDS = {
    "split_version": 1, "manifest_sha256": "0" * 64, "setting": "open", "method_version": "1", "parameters": {}, "seed": 0,
    "kind": "method", "given": [], "device": "cpu", "mothr_version": "0.1.0", "commit": None, "dirty": None, "packages": {},
    "date": "2026-01-31T12:00:00Z", "status": "ok",
}  # fmt: skip


def put(folder, method, split, scores, **changes):
    """Writes a record of ``method`` on a split, with these scores of edge F1, one a tree."""
    per_tree = [{"tree": tree, "edge_f1": score} for tree, score in enumerate(scores)]
    outcome = {"parents": {"a": []}, "metrics": {"edge_f1": 0.5}, "per_tree": per_tree, "seconds": 1.0}
    store.write(RunRecord(**FIELDS | outcome | {"method": method, "split": split} | changes), folder)


def board_of(folder, track="full", setting="open"):
    [board] = [board for board in tracks_of(folder) if (board.track.name, board.setting) == (track, setting)]
    return board


@pytest.fixture
def folder(tmp_path):
    """Three methods and a null on two splits of one track: ``good`` is best everywhere, the others are alike."""
    (tmp_path / "tracks.toml").write_text(TWO)
    for split, base in (("vit-ft", 0.9), ("sd-ft", 0.7)):
        put(tmp_path, "good", split, [base, base, base, base + 0.05])
        put(tmp_path, "plain", split, [base - 0.3, base - 0.2, base - 0.3, base - 0.2])
        put(tmp_path, "other", split, [base - 0.2, base - 0.3, base - 0.2, base - 0.3])
        put(tmp_path, "null-star", split, [0.1] * 4, kind="null")
    return tmp_path


# --- definition ---


def test_every_published_split_belongs_to_one_track_and_dev_splits_to_none():
    tracks = read(RESULTS / "tracks.toml")
    assert [track.name for track in tracks.tracks] == [
        "full", "lora", "relations", "hub", "laundered", "real-roots", "real-families",
    ]  # fmt: skip
    published = [path.parent.name.rpartition("-v")[0] for path in RESULTS.glob("*-v*/runs.jsonl")]
    assert len(published) >= 44
    without = {split for split in published if tracks.of(split) is None}
    assert without == {f"scale-vit-{width}" for width in (32, 64, 128, 256)}  # dev splits, for the study of scale
    expected = {
        "vthr-ft": "full", "llama-gqa-ft": "full", "vit-trajectory": "full", "sd-lora-v": "lora", "vit-mixed": "lora",
        "llama-merge": "relations", "vit-strangers": "relations", "hub-vit": "hub", "hub-sd": "hub",
        "vit-laundered": "laundered", "llama-laundered": "laundered", "dinov2-ft": "real-roots",
        "real-root-smollm2-lora-v": "real-roots", "real-minilm-l6": "real-roots",
        "real-smollm2": "real-roots", "real-minilm": "real-families",
        "hub-vit-draw-2": "hub",
        "vit-laundered-draw-2": "laundered", "real-waifu2x": "real-families", "real-mhcnuggets-ft": "real-families",
    }  # fmt: skip
    assert {split: tracks.of(split).name for split in expected} == expected
    assert [tracks.of(split) for split in ("hub-vit-dev", "hub-vit-dev-draw-2", "vthr-ft-dev", "quickstart")] == [
        None
    ] * 4


def test_the_last_track_and_the_last_pattern_decide(tmp_path):
    (tmp_path / "tracks.toml").write_text(TWO)
    tracks = read(tmp_path / "tracks.toml")
    names = {
        split: getattr(tracks.of(split), "name", None) for split in ("a-ft", "hub-ft", "real-ft", "real-root-ft", "b")
    }
    assert names == {"a-ft": "full", "hub-ft": "hub", "real-ft": "real", "real-root-ft": "full", "b": None}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "hub"', 'name = "full"', "two tracks have the name 'full'; rename one"),
        ('title = "Hub-like"\n', "", "tracks.1.title"),
        ('name = "hub"', 'name = "<b>"', "tracks.1.name"),
        ('["hub-*"]', '["!!hub"]', "tracks.1.splits.0"),
        ('["hub-*"]', "[]", "tracks.1.splits"),
        ("dev =", "devs =", "devs.*did you mean dev"),
        ("dev = [", "dev = ", "not valid TOML"),
    ],
)
def test_a_faulty_definition_is_refused_by_file_and_place(folder, old, new, message):
    path = folder / "tracks.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(MothrError, match=rf"tracks\.toml: .*{message}"):
        tracks_of(folder)


# --- standings ---


def test_a_track_score_is_the_mean_over_splits_with_both_intervals(folder):
    board = board_of(folder)
    assert (dict(board.splits), board.trees) == ({"sd-ft-v1": 4, "vit-ft-v1": 4}, 8)
    good = next(row for row in board.standings if row.label == "good")
    assert good.score.mean == pytest.approx((0.9125 + 0.7125) / 2)
    assert good.score.splits == mean_interval([0.7125, 0.9125], within=(0.0, 1.0))
    assert (good.score.trees.n, good.score.splits.n) == (8, 2)
    assert good.score.trees.low > good.score.splits.low
    assert good.split_scores == pytest.approx({"sd-ft-v1": 0.7125, "vit-ft-v1": 0.9125})


def test_methods_share_a_rank_unless_the_test_over_all_trees_separates_them(folder):
    """On each split alone 4 trees separate nothing (p >= 1/8). On 8 trees p is 2/256, times 3 pairs."""
    board = board_of(folder)
    assert [(row.label, row.rank) for row in board.standings] == [
        ("good", 1), ("other", 2), ("plain", 2), ("null-star", None),
    ]  # fmt: skip
    tests = {(test.first, test.second): (test.p, test.p_holm) for test in board.tests}
    assert tests["good", "plain"] == pytest.approx((2 / 256, 3 * 2 / 256))
    assert tests["other", "plain"] == (1.0, 1.0)
    assert board.best_null.label == "null-star"
    against = board.null_tests["plain"]  # 8 trees, all above the null, and 3 methods that all are
    assert (against.second, against.p, against.p_holm) == ("null-star", 2 / 256, 3 * 2 / 256)
    assert set(board.null_tests) == {"good", "other", "plain"}


def test_a_method_that_lacks_a_split_has_no_track_score_and_takes_part_in_no_test(folder):
    put(folder, "partial", "vit-ft", [1.0] * 4)
    *_, last = board_of(folder).standings
    assert (last.label, last.score, last.rank, last.unranked) == ("partial", None, None, "not run on sd-ft-v1")
    assert list(last.split_scores) == ["vit-ft-v1"]
    assert {name for test in board_of(folder).tests for name in (test.first, test.second)} == {"good", "other", "plain"}


def test_a_method_without_a_rank_on_one_split_has_a_score_and_no_rank(folder):
    put(folder, "tuned", "vit-ft", [1.0] * 4, tuned_on=["vit-ft"])
    put(folder, "tuned", "sd-ft", [1.0] * 4)
    first = board_of(folder).standings[0]
    assert (first.label, first.score.mean, first.rank) == ("tuned", 1.0, None)
    assert first.unranked == "vit-ft-v1: tuned on the truth of this split"


def test_a_tree_without_a_score_leaves_a_method_unranked_and_a_null_unused(folder):
    for split in ("vit-ft", "sd-ft"):
        for method, kind in (("older", "method"), ("null-random-tree", "null")):
            put(folder, method, split, [0.9] * 3, kind=kind)
    board = board_of(folder)
    older = next(row for row in board.standings if row.label == "older")
    assert older.rank is None
    assert older.unranked.startswith("sd-ft-v1: seed 0 is not scored on tree 3; score it again; vit-ft-v1: ")
    assert (older.score.mean, older.score.trees.n) == (pytest.approx(0.9), 6)
    assert board.best_null.label == "null-star"


def test_a_failed_run_scores_zero(folder):
    for split in ("vit-ft", "sd-ft"):
        failed = {"status": "failed", "error": "it broke", "parents": None, "metrics": {}, "per_tree": []}
        put(folder, "broken", split, [], **failed)
    broken = next(row for row in board_of(folder).standings if row.label == "broken")
    assert (broken.score.mean, broken.rank) == (0.0, 4)


def test_a_split_is_solved_if_three_methods_are_right_and_variants_count_once(folder):
    for variant in range(3):
        put(folder, "a", "vit-ft", [1.0, 0.98, 1.0, 1.0], parameters={"variant": variant})
        put(folder, "a", "sd-ft", [0.5] * 4, parameters={"variant": variant})
    put(folder, "b", "vit-ft", [1.0] * 4)
    put(folder, "oracle-star", "vit-ft", [1.0] * 4, kind="oracle", given=["truth"])
    assert board_of(folder).solved == ()
    put(folder, "c", "vit-ft", [1.0, 0.96, 1.0, 1.0])
    board = board_of(folder)
    assert board.solved == ("vit-ft-v1",)
    good = next(row for row in board.standings if row.label == "good")
    assert good.score.mean == pytest.approx(0.8125)  # the solved split counts
    assert good.unsolved.mean == pytest.approx(0.7125)
    assert (good.unsolved.trees.n, good.unsolved.splits.n) == (4, 1)
    put(folder, "c", "vit-ft", [1.0, 0.95, 1.0, 1.0])
    assert board_of(folder).solved == ()


def test_settings_are_ranked_apart_and_the_one_that_gives_nothing_comes_first(folder):
    put(folder, "good", "vit-ft", [1.0] * 4, setting="known-trees", given=["trees"])
    boards = tracks_of(folder)
    assert [(board.setting, board.track.name) for board in boards] == [
        (setting, track) for setting in ("open", "known-trees") for track in ("full", "hub", "real")
    ]
    known = board_of(folder, setting="known-trees")
    assert [(row.label, row.given, row.rank) for row in known.standings] == [("good", ("trees",), 1)]
    assert dict(known.splits) == {"vit-ft-v1": 4}


def test_a_track_without_splits_is_there_and_empty(folder):
    board = board_of(folder, "hub")
    assert (dict(board.splits), board.trees, board.standings, board.tests, board.null_tests) == ({}, 0, (), (), {})


def test_superseded_splits_and_other_builds_are_left_out(folder):
    put(folder, "good", "vit-ft", [0.2] * 4, manifest_sha256="f" * 64)
    write_json(folder / "sd-ft-v1" / "superseded.json", {"superseded_by": "sd-ft-v2", "reason": "a fault"})
    board = board_of(folder)
    assert dict(board.splits) == {"vit-ft-v1": 4}
    assert [row.score.mean for row in board.standings if row.label == "good"] == pytest.approx([0.9125])
    assert (folder / "sd-ft-v1").exists()


def test_splits_in_no_track_are_named(folder):
    put(folder, "good", "odd", [1.0] * 4)
    put(folder, "good", "hub-vit-dev", [1.0] * 4)
    assert without_track(read_leaderboard(folder)) == ["hub-vit-dev-v1", "odd-v1"]


def test_a_folder_that_defines_no_tracks_has_one_of_all_splits_in_python_and_none_on_its_page(folder):
    (folder / "tracks.toml").unlink()
    [board] = mothr.tracks(folder)
    assert (board.track.name, list(board.splits)) == ("all", ["sd-ft-v1", "vit-ft-v1"])
    assert readme_table(folder)[0].splitlines()[2].startswith("| All splits |")
    assert 'id="tracks"' not in write_pages(folder, folder / "page").read_text(encoding="utf-8")


# --- picture, page, tables, command ---


def drawn(folder):
    """The picture of the setting ``open`` as an element tree, without name spaces."""
    boards = [board for board in tracks_of(folder) if board.setting == "open"]
    [view] = by_setting(boards)
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", view.picture(alone=True)))


def texts(element, kind):
    return [text.text for text in element.iter("text") if kind in text.get("class").split()]


def test_the_picture_has_a_panel_for_each_track_and_a_dot_with_two_intervals_for_each_method(folder):
    picture = drawn(folder)
    assert texts(picture, "head") == ["Full", "Hub-like", "Real"]
    assert texts(picture, "count") == ["2 splits, 8 trees", "no splits yet", "no splits yet"]
    assert texts(picture, "name") == ["good", "other", "plain"]
    full = picture.find("g[@class='panel-full']")
    zero, one = (
        float(tick.get("x")) for tick in full.iter("text") if tick.get("class") == "tick" and tick.text in "01"
    )
    marks = [group for group in full.iter("g") if "mark" in group.get("class").split()]
    rows = [row for row in board_of(folder).standings if row.rank]
    for mark, row in zip(marks, rows, strict=True):
        circle, trees, splits = (
            mark.find("circle"),
            mark.find("line[@class='trees']"),
            mark.find("line[@class='splits']"),
        )
        positions = [
            float(circle.get("cx")),
            *(float(line.get(end)) for line in (trees, splits) for end in ("x1", "x2")),
        ]
        score = row.score
        expected = [score.mean, score.trees.low, score.trees.high, score.splits.low, score.splits.high]
        assert [(position - zero) / (one - zero) for position in positions] == pytest.approx(expected, abs=0.002)
        assert f"{row.label}: {score.mean:.3f}, over 8 trees" in mark.find("title").text
    assert texts(full, "rank") == ["1", "2", "2"]
    assert [("first" in mark.get("class")) for mark in marks] == [True, False, False]


def test_where_no_test_separates_methods_the_picture_says_so_and_marks_none_as_first(folder):
    write_json(folder / "sd-ft-v1" / "superseded.json", {"superseded_by": "sd-ft-v2", "reason": "a fault"})
    picture = drawn(folder)
    assert "none separated" in texts(picture, "count")
    assert [group for group in picture.find("g[@class='panel-full']").iter("g") if "first" in group.get("class")] == []


def test_the_picture_shows_the_default_and_the_best_variant_of_a_method(folder):
    for split in ("vit-ft", "sd-ft"):
        for score, direction in ((0.8, "norm"), (0.6, "std"), (0.5, "kurtosis")):
            fields = {**mothr_v2_fields(), "direction": direction}
            put(folder, "mother-v2", split, [score] * 4, parameters=fields, given=["tree_count"])
    lines = [line for line in shown_methods([board_of(folder)]) if line.name == "mother-v2"]
    assert [line.note for line in lines] == ["norm (best of 3)", "kurtosis (default)"]
    put(folder, "mother-v2", "vit-ft", [1.0] * 4, parameters={**mothr_v2_fields(), "direction": "outlier"})
    put(folder, "good", "hub-vit", [1.0] * 4)
    put(folder, "mother-v2", "hub-vit", [1.0] * 4, parameters={**mothr_v2_fields(), "direction": "std"})
    boards = [board for board in tracks_of(folder) if board.setting == "open"]
    notes = [(line.name, line.note) for line in shown_methods(boards)]
    assert notes == [  # first those with a score on both tracks; a score on some splits of a track is none
        ("good", ""), ("mother-v2", "std"), ("other", ""), ("plain", ""), ("mother-v2", "kurtosis (default)"),
    ]  # fmt: skip


def mothr_v2_fields():
    from mothr.benchmark.run.method import about
    from mothr.benchmark.run.registry import find_method

    return dict(about(find_method("mother-v2"), "mother-v2").parameters)


def test_the_page_opens_on_the_tracks_and_needs_no_script_for_them(folder, sample):
    for split in ("vit-ft", "sd-ft"):
        put(folder, sample.evil, split, [0.2] * 4)
    page = write_pages(folder, folder / "page").read_text(encoding="utf-8")
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    assert body.index('id="tracks"') < body.index('id="controls"') < body.index('id="overview"')
    assert "<script" not in body
    assert body.count('class="tracks-picture"') == 1
    for words in ("Methods by tracks", "2 splits, 8 trees", "No split of this track has results yet.", "vit-ft-v1"):
        assert words in body


def test_a_browser_without_scripts_shows_picture_table_and_tracks(browser, folder):
    address = write_pages(folder, folder / "page").as_uri()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        assert browser.find_element("css selector", ".tracks-picture .mark circle").is_displayed()
        rows = browser.find_elements("css selector", ".tracks-table tbody tr")
        assert [row.find_element("tag name", "th").text for row in rows if row.is_displayed()][:2] == ["good", "other"]
        summary = browser.find_element("css selector", "details.track summary")
        assert summary.text == "Full, open · 2 splits, 8 trees"
        summary.click()  # a browser opens it without a script
        links = browser.find_elements("css selector", "details.track p a")
        assert [link.text for link in links if link.is_displayed()] == ["sd-ft-v1", "vit-ft-v1"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_tables_hold_the_same_numbers_and_link_the_picture(folder):
    written = write_both(folder, folder / "out")
    text = written.tables.read_text(encoding="utf-8")
    assert "(tracks-open.svg)" in text
    assert ElementTree.fromstring((folder / "out" / "tracks-open.svg").read_text(encoding="utf-8")).tag.endswith("svg")
    good = board_of(folder).standings[0]
    ends = f"{good.score.trees.low:.2f}–{good.score.trees.high:.2f} | {good.score.splits.low:.2f}–{good.score.splits.high:.2f}"
    assert f"| 1 | good | {good.score.mean:.3f} | {ends} | {good.unsolved.mean:.3f} | 0.023 |" in text
    assert written.tracks == tracks_of(folder)


def test_the_command_gives_tracks_as_json_and_as_a_short_table(mothr, folder):
    whole = mothr("leaderboard", folder, "--out", folder / "out", "--json").json["tracks"]
    assert [(track["track"], track["setting"]) for track in whole] == [
        ("full", "open"),
        ("hub", "open"),
        ("real", "open"),
    ]
    assert whole[0]["standings"][0]["score"]["trees"]["n"] == 8
    assert {"first", "second", "difference", "p", "p_holm"} == set(whole[0]["tests"][0])
    short = mothr("leaderboard", folder, "--summary", "--json").json
    assert short["tracks"] == json.loads(json.dumps(whole))
    head, _, full, *rest = mothr("leaderboard", folder, "--summary").out.splitlines()
    assert head.startswith("| Track | Linea |")
    assert full == "| Full | – | – | – | – | – | 2 (0) | 8 |"
    assert [line.split(" | ")[0] for line in rest] == ["| Hub-like", "| Real"]


def test_a_browser_shows_the_picture_without_overlaps_and_leads_to_a_track(browser, folder):
    browser.get(write_pages(folder, folder / "page").as_uri())
    overlaps = browser.execute_script(
        """
        const boxes = [...document.querySelectorAll('.tracks-picture text')]
          .map((text) => [text.textContent, text.getBoundingClientRect()]);
        const hit = ([, a], [, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => hit(a, b)).map((b) => `${a[0]} / ${b[0]}`));
        """
    )
    assert overlaps == []
    browser.find_element("css selector", ".tracks-table thead a").click()
    assert browser.execute_script("return document.querySelector('details.track').open")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
