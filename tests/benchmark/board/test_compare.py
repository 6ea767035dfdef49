import pytest

from mothr.benchmark.board.board import TREE_METRICS
from mothr.benchmark.board.compare import Choice, compare
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.score.statistics import sign_flip_test

FIELDS = {
    "split": "tiny", "split_version": 1, "manifest_sha256": "0" * 64, "setting": "open", "method": "linea", "method_version": "1",
    "parameters": {}, "seed": 0, "kind": "method", "given": [], "status": "ok", "device": "cpu", "mothr_version": "0.1.0", "commit": None,
    "dirty": None, "packages": {}, "date": "2026-01-31T12:00:00Z", "parents": {"a": []}, "metrics": {"edge_f1": 0.0},
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def written(scores, **changes):
        per_tree = [{"tree": tree, **dict.fromkeys(TREE_METRICS, score)} for tree, score in enumerate(scores)]
        store.write(RunRecord(**FIELDS | {"per_tree": per_tree} | changes), tmp_path)
        return tmp_path

    return written


def test_the_difference_is_taken_tree_by_tree_over_seeds_and_tested_by_flipping_signs(write):
    ours = ([0.9, 0.8, 1.0], [0.7, 0.8, 1.0])
    for seed, scores in enumerate(ours):
        write(scores, seed=seed)
    folder = write([0.5, 0.9, 0.4], method="mother-v2", setting="known-trees", given=["trees"])
    [comparison] = compare(folder, Choice("linea"), Choice("mother-v2", "known-trees"))
    assert (comparison.split, comparison.difference.n) == ("tiny-v1", 3)
    assert comparison.first == pytest.approx((0.8 + 0.8 + 1.0) / 3)
    assert comparison.difference.mean == pytest.approx((0.3 - 0.1 + 0.6) / 3)
    assert comparison.difference.low < comparison.difference.mean < comparison.difference.high
    assert comparison.p == sign_flip_test([0.8, 0.8, 1.0], [0.5, 0.9, 0.4]) == comparison.p_holm


def test_p_values_are_adjusted_for_the_number_of_splits(write):
    for split in ("one", "two", "three"):
        write([0.9] * 6, split=split)
        folder = write([0.5] * 6, split=split, method="tensorlock")
    comparisons = compare(folder, Choice("linea"), Choice("tensorlock"))
    assert [row.split for row in comparisons] == ["one-v1", "three-v1", "two-v1"]
    assert {row.p for row in comparisons} == {2 / 64}
    assert {row.p_holm for row in comparisons} == {6 / 64}


def test_rows_of_one_method_are_told_apart_by_their_fields(write):
    for direction, score in (("norm", 0.9), ("kurtosis", 0.3)):
        write([score, score], method="mother-v2", parameters={"direction": direction, "lambda_": 0.3})
    folder = write([0.5, 0.5])
    with pytest.raises(
        MothrError,
        match=r"mother-v2@open: several rows match on tiny-v1; .*direction=(norm or kurtosis|kurtosis or norm)",
    ):
        compare(folder, Choice("linea"), Choice.parse("mother-v2"))
    for text, score in (("mother-v2,direction=norm", 0.9), ("mother-v2@open,direction=kurtosis,lambda_=0.3", 0.3)):
        [comparison] = compare(folder, Choice("linea"), Choice.parse(text))
        assert comparison.second == pytest.approx(score)
        assert str(Choice.parse(text)) == text.replace("v2,", "v2@open,")


def test_a_field_of_a_group_is_named_by_its_dotted_path(write):
    for tail, score in ((0.7, 0.9), (0.5, 0.3)):
        write([score, score], method="mine", parameters={"depth": 2, "inheritance": {"tail": tail, "mode": "strict"}})
    folder = write([0.5, 0.5])
    with pytest.raises(MothrError, match=r"comma: inheritance\.tail=(0\.5 or 0\.7|0\.7 or 0\.5)$"):
        compare(folder, Choice("linea"), Choice("mine"))
    [comparison] = compare(folder, Choice("linea"), Choice.parse("mine,inheritance.tail=0.7,inheritance.mode=strict"))
    assert comparison.second == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("first", "second", "metric", "message"),
    [
        ("line", "tensorlock", "edge_f1", "unknown method in these results 'line'; did you mean linea"),
        (
            "linea",
            "tensorlock@known-trees",
            "edge_f1",
            "no split on which both linea@open and tensorlock@known-trees were run",
        ),
        ("linea", "tensorlock", "edge_f", "unknown metric of trees 'edge_f'; did you mean edge_f1"),
        ("linea,=1", "tensorlock", "edge_f1", "write a method as METHOD, METHOD@SETTING"),
    ],
)
def test_methods_that_cannot_be_compared_are_refused(write, first, second, metric, message):
    write([0.5])
    folder = write([0.5], method="tensorlock")
    with pytest.raises(MothrError, match=message):
        compare(folder, Choice.parse(first), Choice.parse(second), metric)


def test_the_command_prints_a_row_a_split_and_a_verdict(write, mothr):
    write([1.0, 1.0])
    folder = write([0.5, 0.25], method="tensorlock")
    called = mothr("compare", "linea", "tensorlock", folder)
    assert called.code == 0
    assert "tiny-v1" in called.out
    assert "edge_f1: linea is ahead on 1, behind on 0, level on 0 of 1 splits, against tensorlock" in called.out
    [split] = mothr("compare", "linea", "tensorlock", folder, "--json").json["splits"]
    assert split["difference"]["mean"] == pytest.approx(0.625)
