"""What a board is to hold: plans read, refused, run, and held against what there is."""

import re
from pathlib import Path

import pytest

from mothr.benchmark.board.board import gaps, rows
from mothr.benchmark.board.leaderboard import write_markdown
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.store import read_all
from mothr.benchmark.run.plan import Planned, of_results, read, requested, selects

PLAN = """
[[rows]]
methods = ["null-star", "null-random-tree"]
seeds = 2

[[rows]]
methods = ["null-mst-random-root"]
splits = ["other", "ti*"]
set = { layers = ["all", "matrices"], distance = ["rms"] }

[[rows]]
methods = ["linea"]
splits = ["*-lora-*"]
"""


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes a plan where a folder of results has its own."""

    def write(text=PLAN) -> Path:
        path = tmp_path / "results" / "plan.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_plan_is_what_runs_on_a_split_in_its_order(written):
    plan = read(written())
    chance = [Planned("null-star", {}, 2), Planned("null-random-tree", {}, 2)]
    each = [Planned("null-mst-random-root", {"layers": layers, "distance": "rms"}) for layers in ("all", "matrices")]
    assert plan.on("tiny") == chance + each
    assert plan.on("llama-lora-f") == [*chance, Planned("linea")]
    assert plan.on("TINY") == chance
    assert str(each[1]) == "null-mst-random-root layers=matrices distance=rms"
    assert str(chance[0]) == "null-star"


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [(["*", "!hub-*"], ["vit"]), (["!hub-*", "hub-vit"], ["hub-vit"]), (["!hub-*"], []), (["*"], ["hub-vit", "vit"])],
)
def test_the_last_pattern_that_fits_a_split_decides(patterns, selected):
    assert [split for split in ("hub-vit", "vit") if selects(patterns, split)] == selected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "field 'rows' is missing"),
        ("rows = []", "rows: List should have at least 1 item"),
        ("[[row]]\nmethods = ['linea']", "unknown field 'row'; did you mean rows"),
        ("[[rows]]\nmethod = ['linea']", "rows.0.method: unknown field 'method'; did you mean methods"),
        ("[[rows]]\nmethods = []", "rows.0.methods: List should have at least 1 item"),
        ("[[rows]]\nmethods = 'linea'", "rows.0.methods: Input should be a valid list (given: 'linea')"),
        ("[[rows]]\nmethods = ['lina']", "rows.0: unknown method 'lina'; did you mean linea"),
        (
            "[[rows]]\nmethods = ['linea']\nseeds = 0",
            "rows.0.seeds: Input should be greater than or equal to 1 (given: 0)",
        ),
        (
            "[[rows]]\nmethods = ['linea']\nset = { layers = 'body' }",
            "rows.0.set.layers: Input should be a valid list (given: 'body')",
        ),
        ("[[rows]", "not valid TOML"),
    ],
)
def test_a_faulty_plan_is_refused_by_file_and_value(written, text, expected):
    path = written(text)
    with pytest.raises(MothrError, match=re.escape(expected)) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_plan_that_cannot_be_read_is_named(written, tmp_path):
    with pytest.raises(MothrError, match=r"absent\.toml: cannot read this plan"):
        read(tmp_path / "absent.toml")
    path = written()
    path.write_bytes(b"\xff")
    with pytest.raises(MothrError, match=r"plan\.toml: not valid TOML"):
        read(path)
    assert of_results(tmp_path) is None


def test_one_word_asks_for_names_for_all_or_for_a_plan(written):
    both = [Planned(name, {"layers": "body"}, 3) for name in ("linea", "neighbour-joining")]
    assert requested("linea,neighbour-joining", {"layers": "body"}, 3).on("x") == both
    assert Planned("oracle-star") in requested("all").on("x")
    assert requested("mine:star").on("x") == [Planned("mine:star")]
    path = written()
    assert requested(str(path)) == read(path)
    for given, option in (({"settings": {"layers": "body"}}, "--set"), ({"seeds": 2}, "--seeds")):
        with pytest.raises(
            MothrError, match=rf"plan\.toml: a plan has its own fields and seeds; leave out {option}, or edit the plan"
        ):
            requested(str(path), **given)
    with pytest.raises(MothrError, match="no method in ','"):
        requested(",")
    with pytest.raises(MothrError, match="unknown method 'lina'; did you mean linea"):
        requested("lina")


def test_what_ran_is_no_gap_and_what_did_not_is_one(mothr, tiny, written):
    path = written()
    called = mothr("run", path, tiny, "--out", path.parent, "--in-process", "--json")
    assert called.code == 0, called.err
    names = ["null-star"] * 4 + ["null-random-tree"] * 4 + ["null-mst-random-root"] * 4
    assert [row["method"] for row in called.json] == names
    assert [row["fields"] for row in called.json[8:]] == ["layers=all distance=rms"] * 2 + [
        "layers=matrices distance=rms"
    ] * 2
    records = read_all(path.parent)
    assert len(records) == 12
    assert {(record.method, record.seed) for record in records} == {
        ("null-star", 0), ("null-star", 1), ("null-random-tree", 0), ("null-random-tree", 1), ("null-mst-random-root", 0)
    }  # fmt: skip
    assert gaps(rows(records), read(path)) == []
    assert "0 runs are missing beside the 12 there are" in mothr("gaps", path.parent).out

    store.remove(records[-1:], path.parent)
    called = mothr("run", path, tiny, "--out", path.parent, "--in-process", "--missing", "--json")
    assert [row["method"] for row in called.json] == ["null-star"]
    assert [record.parents for record in read_all(path.parent)] == [record.parents for record in records]
    assert mothr("run", path, tiny, "--out", path.parent, "--missing", "--json").json == []
    assert mothr("run", path, tiny, "--out", path.parent, "--missing").out == "(none)\n"

    written(PLAN.replace('"all", ', "").replace("seeds = 2", "seeds = 3").replace("*-lora-*", "*"))
    result = [str(gap) for gap in gaps(rows(records), of_results(path.parent))]
    assert result == [
        f"tiny-v1, {setting}: {what}"
        for setting in ("known-trees", "open")
        for what in ("linea: no run", "null-random-tree: seed 2 missing", "null-star: seed 2 missing")
    ]
    write_markdown(path.parent, path.parent)
    text = (path.parent / "tiny-v1" / "README.md").read_text(encoding="utf-8")
    assert text.count("Not run here: linea.") == 2
    assert (
        text.count("null-mst-random-root layers=matrices distance=rms") == 2
    )  # as the plan has it, without the fields left as they are


def test_a_run_of_an_older_version_is_a_gap(mothr, tiny, written):
    path = written('[[rows]]\nmethods = ["null-star"]')
    assert mothr("run", path, tiny, "--setting", "open", "--out", path.parent, "--in-process").code == 0
    [record] = read_all(path.parent)
    older = record.model_copy(update={"method_version": "0.1"})
    assert [str(gap) for gap in gaps(rows([older]), read(path))] == ["tiny-v1, open: null-star: no run"]


def test_a_field_that_no_method_has_is_found_before_anything_runs(mothr, tiny, written, tmp_path):
    path = written('[[rows]]\nmethods = ["null-star"]\n[[rows]]\nmethods = ["linea"]\nset = { layer = ["body"] }')
    called = mothr("run", path, tiny, "--out", tmp_path / "out")
    assert called.code == 1
    assert "unknown field of linea 'layer'; did you mean layers" in called.err
    assert not list((tmp_path / "out").rglob("null-star*"))


def test_a_plan_without_rows_for_a_split_says_so(mothr, tiny, written, tmp_path):
    path = written('[[rows]]\nmethods = ["null-star"]\nsplits = ["vthr-*"]')
    called = mothr("run", path, tiny, "--out", tmp_path / "out")
    assert called.code == 1
    assert "plan.toml: has nothing to run on the split 'tiny'; see the 'splits' of its rows" in called.err


def test_the_plan_of_the_board_can_be_run():
    plan = of_results(Path(__file__).parents[3] / "results")
    whole = plan.on("hub-vit")
    assert len({request.configuration() for request in whole}) == len(whole)
    assert {request.method for request in requested("all").on("hub-vit")} == {request.method for request in whole}
    assert len(plan.on("vthr-lora-v")) > len(plan.on("vit-chains"))
