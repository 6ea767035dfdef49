import math
import re

import numpy as np
import pytest
from scipy.stats import t as student

from mothr.benchmark.board.board import TREE_METRICS, Gap, board, gaps, rows
from mothr.benchmark.records.record import RunRecord

BUILD, OTHER_BUILD = "0" * 64, "f" * 64
FIELDS = {
    "split": "tiny", "split_version": 1, "manifest_sha256": BUILD, "setting": "open", "method": "linea", "method_version": "1",
    "parameters": {}, "seed": 0, "kind": "method", "given": [], "status": "ok", "device": "cpu", "mothr_version": "0.1.0", "commit": None,
    "dirty": None, "packages": {}, "date": "2026-01-31T12:00:00Z",
}  # fmt: skip


def run(scores=(1.0, 1.0), **changes):
    """A record with these scores, one a tree, in every metric; a failed one if they are None."""
    if scores is None:
        outcome = {"status": "failed", "error": "it broke", "metrics": {}, "per_tree": []}
    else:
        per_tree = [{"tree": tree, **dict.fromkeys(TREE_METRICS, score)} for tree, score in enumerate(scores)]
        outcome = {"parents": {"a": []}, "metrics": {"adjusted_rand": scores[0]}, "per_tree": per_tree, "seconds": 2.0}
    return RunRecord(**FIELDS | outcome | changes)


def only(records, **where):
    result = board(records)
    for name, value in where.items():
        result = result[result[name] == value]
    assert len(result) == 1
    return result.iloc[0]


def test_a_score_is_the_mean_over_trees_of_the_mean_over_seeds_with_its_t_interval():
    row = only([run((1.0, 0.2, 0.6)), run((0.8, 0.4, 0.6), seed=1)])
    trees = np.array([0.9, 0.3, 0.6])
    half = student.ppf(0.975, 2) * trees.std(ddof=1) / math.sqrt(3)
    assert row["edge_f1"] == pytest.approx(0.6)
    assert row["edge_f1_low"] == pytest.approx(max(0.6 - half, 0))
    assert row["edge_f1_high"] == pytest.approx(min(0.6 + half, 1))
    assert row["edge_f1_worst"] == pytest.approx(0.3)
    assert (row["trees"], row["seeds"], row["failed"], row["edge_f1_n"]) == (3, 2, 0, 3)
    assert row["adjusted_rand"] == pytest.approx(0.9)
    assert row["seconds"] == 2.0


def test_scores_of_different_schema_versions_are_not_compared():
    """They number trees differently. A folder without a truth, as of a hidden split, cannot tell how."""
    table = board([run((1.0, 0.2)), run((0.2, 1.0), method="old", schema_version=2), run(None, method="failed")])
    reasons = dict(zip(table["method"], table["unranked"], strict=True))
    assert reasons["old"] == "scored before schema version 3, which numbers trees otherwise; score it again"
    assert (reasons["linea"], reasons["failed"]) == ("", "")
    assert set(board([run(schema_version=2), run(method="b", schema_version=2)])["unranked"]) == {""}


def test_intervals_stay_within_the_range_of_the_metric_and_one_tree_has_none():
    row = only([run((0.0, 1.0))])
    assert (row["edge_f1_low"], row["edge_f1_high"]) == (0.0, 1.0)
    row = only([run((0.5,))])
    assert row["edge_f1"] == 0.5
    assert math.isnan(row["edge_f1_low"])


def test_an_undefined_score_is_left_out_and_counted():
    record = run((0.5, 0.7))
    record.per_tree[0]["direction_accuracy"] = None
    row = only([record])
    assert (row["direction_accuracy"], row["direction_accuracy_n"]) == (pytest.approx(0.7), 1)
    assert row["edge_f1_n"] == 2


@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_a_failed_run_counts_as_zero_on_every_tree(status):
    row = only([run((1.0, 0.5)), run(None, seed=1, status=status)])
    assert row["edge_f1"] == pytest.approx((0.5 + 0.25) / 2)
    assert row["adjusted_rand"] == pytest.approx(0.5)
    assert row["failed"] == 1
    assert row["rank"] == 1
    assert row["seconds"] == 2.0


def test_a_method_that_only_failed_scores_zero_on_the_trees_others_were_scored_on():
    records = [run((1.0, 0.5)), run(None, method="broken")]
    assert only(records, method="broken")["edge_f1"] == 0.0
    alone = only([run(None)])
    assert math.isnan(alone["edge_f1"])
    assert math.isnan(alone["rank"])


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([run(), run(seed=2), run(seed=4)], "seed 1, 3 missing"),
        ([run(), run(None, seed=1, status="skipped", error="no GPU")], "seed 1 was skipped: no GPU"),
        ([run(), run((1.0, 1.0, 1.0), method="other")], "seed 0 is not scored on tree 2"),
        ([run(tuned_on=["tiny-v1"])], "tuned on the truth"),
        (
            [run(manifest_sha256=OTHER_BUILD), run(method="a"), run(method="b")],
            "another build .*ffffffffffff, not 000000000000",
        ),
    ],
)
def test_gaps_leave_a_method_unranked_and_are_named(records, expected):
    row = only(records, method="linea")
    assert math.isnan(row["rank"])
    assert re.search(expected, row["unranked"])


def test_a_skipped_run_does_not_count_as_zero():
    assert only([run((0.8, 0.6)), run(None, seed=1, status="skipped")])["edge_f1"] == pytest.approx(0.7)


def test_the_split_s_own_manifest_decides_which_build_is_right():
    records = [run(manifest_sha256=OTHER_BUILD), run(method="a"), run(method="b")]
    result = board(records, {("tiny", 1): OTHER_BUILD}).set_index("method")
    assert result.loc["linea", "rank"] == 1
    assert result.loc[["a", "b"], "rank"].isna().all()


def test_bounds_and_metadata_methods_are_shown_but_not_ranked():
    records = [
        run(),
        run(method="null-star", kind="null"),
        run(method="oracle-star", kind="oracle", given=["truth"]),
        run(method="cheat:Cheat", kind="oracle", given=["truth"]),
        run(method="atlas", kind="metadata", given=["metadata"]),
    ]
    result = board(records).set_index("method")
    assert result["kind"].to_dict() == {
        "linea": "method", "null-star": "null", "oracle-star": "oracle", "cheat:Cheat": "oracle", "atlas": "metadata",
    }  # fmt: skip
    assert result.index[result["rank"].notna()].tolist() == ["linea"]


def test_methods_share_a_rank_until_there_are_trees_enough_to_tell_them_apart():
    for trees, expected in ((5, 1), (8, 3)):
        records = [run([0.9] * trees), run([0.1] * trees, method="worse"), run([0.9] * trees, method="as-good")]
        assert board(records).set_index("method")["rank"].to_dict() == {"linea": 1, "as-good": 1, "worse": expected}


def test_splits_versions_and_settings_are_boards_of_their_own():
    records = [run([0.9] * 8)] + [
        run([0.1] * 8, method="worse", **fields)
        for fields in ({"setting": "known-trees"}, {"split_version": 2}, {"split": "other"})
    ]
    result = board(records)
    assert len(result) == 4
    assert (result["rank"] == 1).all()


def test_rows_of_one_name_are_told_apart_by_what_differs():
    records = [
        run(method="mother-v2", parameters={"weight": 0.3, "stage": "up"}),
        run(method="mother-v2", parameters={"weight": 0.1, "stage": "up"}),
        run(method="mother-v2", parameters={"weight": 0.1, "stage": "up"}, method_version="2"),
        run(method="linea", parameters={"layers": "all"}),
    ]
    assert sorted(board(records)["label"]) == [
        "linea",
        "mother-v2 version=1 weight=0.1",
        "mother-v2 version=1 weight=0.3",
        "mother-v2 version=2 weight=0.1",
    ]
    assert board(records)["id"].is_unique


def test_parameters_that_a_version_lacks_are_not_named_if_the_version_tells_rows_apart():
    records = [
        run(parameters={"old": 1, "layers": "all"}),
        run(parameters={"new": 2, "layers": "all"}, method_version="2"),
    ]
    assert sorted(board(records)["label"]) == ["linea version=1", "linea version=2"]
    records = [run(parameters={"layers": "all"}), run(parameters={"layers": "all", "new": 2})]
    assert sorted(board(records)["label"]) == ["linea", "linea new=2"]


def test_the_order_of_the_records_does_not_matter():
    records = [
        run((score, 0.5), method=name, seed=seed)
        for score, name in ((0.9, "a"), (0.3, "b"), (0.6, "null-c"))
        for seed in (0, 1)
    ]
    assert board(records).equals(board(records[::-1]))


def test_a_row_keeps_its_id_when_seeds_are_added_and_shows_the_first_answer():
    before, after = rows([run(None)]), rows([run(None), run(seed=1)])
    assert before[0].id == after[0].id
    assert before[0].drawn() is None
    assert after[0].drawn().seed == 1


def test_gaps_are_what_a_full_board_would_have():
    assert gaps([]) == gaps(rows([run(), run(seed=1), run(None, seed=2)])) == []  # a failure is an answer
    records = [
        run(), run(seed=1), run(seed=2), run(setting="known-trees", seed=1), run(None, setting="known-trees", status="skipped"),
        run(split="other", manifest_sha256=OTHER_BUILD), run(split="other", method="null-star"),
    ]  # fmt: skip
    result = gaps(rows(records, {("other", 1): BUILD}))
    assert [str(gap) for gap in result] == [
        "other-v1, open: linea: no run",  # it was run on other weights
        "tiny-v1, known-trees: linea: seed 0, 2 missing",
        "tiny-v1, known-trees: null-star: no run",
        "tiny-v1, open: null-star: no run",
    ]
    assert result[1] == Gap("linea", "tiny-v1", "known-trees", (0, 2), 3)
    assert gaps(rows(records[::-1], {("other", 1): BUILD})) == result


def test_only_the_newest_version_is_missed():
    records = [run(method_version="9"), run(method_version="10"), run(split="other", method_version="9")]
    assert [str(gap) for gap in gaps(rows(records))] == ["other-v1, open: linea version=10: no run"]
    several = [
        run(parameters={"weight": 0.1}),
        run(parameters={"weight": 0.3}),
        run(split="other", parameters={"weight": 0.1}),
    ]
    assert [str(gap) for gap in gaps(rows(several))] == ["other-v1, open: linea weight=0.3: no run"]
