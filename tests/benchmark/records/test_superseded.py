"""Published results are never edited: a later version takes their place, and the board and a warning say so."""

import json
import re
import warnings

import pytest

from mothr.benchmark.board.board import gaps, latest, rows
from mothr.benchmark.board.compare import Choice, compare
from mothr.benchmark.board.leaderboard import write_both
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import read_all, write
from mothr.benchmark.records.superseded import later_version

LATER = {"superseded_by": "tiny-v2", "reason": "Two models of it were <b>one</b>."}


def fill(folder):
    """Writes a record of each of two versions of a split."""
    for version in (1, 2):
        write(RunRecord(
            split="tiny", split_version=version, manifest_sha256="0" * 64, setting="open", method="linea", method_version="1",
            parameters={}, seed=0, given=[], kind="method", status="ok", parents={"a": [], "b": ["a"]}, metrics={"edge_f1": 1.0},
            per_tree=[{"tree": 0, "edge_f1": 1.0}],
            device="cpu", mothr_version="0", commit=None, dirty=None, packages={}, date="2026-01-31T12:00:00Z",
        ), folder)  # fmt: skip
    return folder


def supersede(folder, value):
    """Writes the file that names the later version; returns the folder of the split."""
    (folder / "tiny-v1" / "superseded.json").write_text(json.dumps(value))
    return folder / "tiny-v1"


def boards(page):
    [text] = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    return {board["folder"]: board for board in json.loads(text)["boards"]}


def test_the_old_board_names_the_new_board_and_nothing_else_changes(tmp_path):
    folder = fill(tmp_path / "results")
    first = write_both(folder, tmp_path / "before")
    before, tables = first.page, first.tables
    split_folder = supersede(folder, LATER)
    assert later_version(split_folder).superseded_by == "tiny-v2"
    assert later_version(folder / "tiny-v2") is None
    assert len(read_all(folder)) == 2
    second = write_both(folder, tmp_path / "after")
    page, markdown = second.page, second.tables
    names = {"superseded_by": LATER["superseded_by"], "superseded_reason": LATER["reason"]}
    assert boards(page) == boards(before) | {"tiny-v1": boards(before)["tiny-v1"] | names}
    assert "<b>one" not in page.read_text(encoding="utf-8")
    reason = "Two models of it were \\<b\\>one\\</b\\>."
    assert f"- [tiny-v1](tiny-v1/README.md): superseded by tiny-v2: {reason}" in markdown.read_text(encoding="utf-8")
    old, new = ((markdown.parent / f"tiny-v{version}" / "README.md").read_text(encoding="utf-8") for version in (1, 2))
    assert f"**Superseded by [tiny-v2](../tiny-v2/README.md)**: {reason}" in old
    assert new == (tables.parent / "tiny-v2" / "README.md").read_text(encoding="utf-8")
    was = (tables.parent / "tiny-v1" / "README.md").read_text(encoding="utf-8")
    assert re.sub(r"\*\*Superseded.*\n\n", "", old) == was


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"superseded_by": "tiny-v2"}, "field 'reason' is missing"),
        (LATER | {"superseded_by": "../../x"}, "superseded_by: .*pattern"),
        (LATER | {"superseded_by": "tiny-v1"}, "names the split that it lies with; name the version"),
        (LATER | {"resaon": ""}, "unknown field 'resaon'; did you mean reason"),
        ([], "Input should be"),
    ],
)
def test_a_faulty_file_is_refused_by_its_name(tmp_path, value, message):
    split_folder = supersede(fill(tmp_path), value)
    with pytest.raises(MothrError, match=rf"superseded\.json: .*{message}"):
        later_version(split_folder)


def test_a_run_on_a_superseded_split_is_warned_about(mothr, data, tmp_path):
    out = tmp_path / "results"
    (out / "tiny-v1").mkdir(parents=True)
    supersede(out, LATER)
    words = ("run", "null-star", data, "--out", out, "--setting", "open", "--in-process")
    with pytest.warns(UserWarning, match="tiny-v1 is superseded by tiny-v2: Two models of it were"):
        assert mothr(*words).code == 0
    (out / "tiny-v1" / "superseded.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mothr(*words).code == 0


def test_a_superseded_split_has_no_gaps_and_is_not_compared(tmp_path):
    folder = fill(tmp_path)
    first = read_all(folder)[0]
    write(first.model_copy(update={"method": "mother-v2"}), folder)
    write(first.model_copy(update={"method": "mother-v2", "split_version": 2}), folder)
    write(first.model_copy(update={"method": "only-there"}), folder)

    def gaps_and_splits():
        missing = [
            (gap.split, gap.label) for gap in gaps(latest(rows(read_all(folder)), folder)) if gap.setting == "open"
        ]
        return missing, [row.split for row in compare(folder, Choice("linea"), Choice("mother-v2"))]

    assert gaps_and_splits() == ([("tiny-v2", "only-there")], ["tiny-v1", "tiny-v2"])
    supersede(folder, LATER)
    assert gaps_and_splits() == ([], ["tiny-v2"])
