"""The tables of the leaderboard in Markdown."""

import re

from mothr.benchmark.board.board import board
from mothr.benchmark.board.leaderboard import readme_table, write_markdown
from mothr.benchmark.records.store import read_all
from mothr.benchmark.storage import write_json


def tables_of(folder, split="tiny-v1"):
    """The text of a split's tables."""
    write_markdown(folder, folder / "tables")
    return (folder / "tables" / split / "README.md").read_text(encoding="utf-8")


def test_a_split_s_file_has_a_table_for_each_setting_with_every_row_whole(filled):
    text = tables_of(filled)
    _, *boards = text.split("\n## ")
    assert [own_board.partition(":")[0] for own_board in boards] == ["known-trees", "open"]
    tables = [line for own_board in boards for line in own_board.splitlines() if line.startswith("|")]
    assert len(tables) == 6 + 2 * 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {14}
    assert re.search(r"^\| 1 \| linea \| nothing \| 1\.000 \(0\.48–1\.00\) \| 1\.000 \|", text, re.MULTILINE)
    assert re.search(r"^\| – \| \*null-random-tree\* \(null\) \|", text, re.MULTILINE)
    assert "- gappy: seed 0 missing" in text
    assert "Not run here: " in text
    assert "<script>" not in text
    assert "only-there" in tables_of(filled, "other-v1")


def test_a_score_on_a_single_tree_says_so_and_has_no_interval(filled, sample):
    truth = sample.true_forest(1)
    sample.put(filled, "linea", truth, split="single", truth=truth)
    assert "| 1 | linea | nothing | 1.000 (n = 1) |" in tables_of(filled, "single-v1")
    assert "| 1.00 (n = 1) |" in (filled / "tables" / "README.md").read_text(encoding="utf-8")


def test_the_summary_explains_numbers_and_has_a_row_for_each_split(filled, tmp_path, sample):
    sample.put(filled, "null-mst-random-root", sample.truth, kind="null")
    text = write_markdown(filled, tmp_path).read_text(encoding="utf-8")
    _, guide, known, opened, *sections = text.split("\n## ")
    assert guide.startswith("How to read a number")
    for word in ("Model Tree", "split", "setting", "known-trees", "open", "interval", "rank"):
        assert f"**{word}**" in guide
    assert known.startswith("known-trees")
    assert "| [tiny](tiny-v1/README.md) | linea | 1.00 (0.48–1.00) | 1.00 (0.48–1.00) | – | – | – |" in known
    lines = [line for line in opened.splitlines() if line.startswith("| [")]
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| [other](other-v1/README.md)", "only-there"],
        ["| [tiny](tiny-v1/README.md)", "linea"],
    ]
    assert lines[1].endswith("| 1.00 (0.48–1.00) |")  # the null
    assert not sections  # no method ran on both splits


def test_the_summary_has_the_mean_of_methods_that_ran_everywhere(filled, tmp_path, sample):
    sample.put(filled, "only-there", sample.truth)
    scores = board(read_all(filled)).query("setting == 'open'").set_index(["split", "method"])["edge_f1"]
    text = write_markdown(filled, tmp_path).read_text(encoding="utf-8")
    means = text.split("\n## Mean over all splits")[1]
    assert [line for line in means.splitlines() if line.startswith("| ")][2:] == [
        f"| only-there | {(1 + scores['other', 'only-there']) / 2:.2f} |"
    ]
    write_json(filled / "other-v1" / "superseded.json", {"superseded_by": "other-v2", "reason": "a fault"})
    text = write_markdown(filled, tmp_path).read_text(encoding="utf-8")
    assert "Mean over all splits" not in text
    assert "| [other]" not in text
    assert "- [other-v1](other-v1/README.md): superseded by other-v2: a fault" in text


def test_a_short_table_has_a_row_for_each_track(filled, sample):
    sample.put(filled, "linea", sample.truth, split="vit-lora-f")
    tracks = ["all", "lora"]
    (filled / "tracks.toml").write_text("".join(
        f'[[tracks]]\nname = "{name}"\ntitle = "{name}"\nabout = "x"\nsplits = ["{pattern}"]\n'
        for name, pattern in zip(tracks, ("*", "*-lora-*"), strict=True)
    ))  # fmt: skip
    head, _, *lines = readme_table(filled)[0].splitlines()
    assert head.startswith("| Track | Linea | MoTHer v2 as published | MoTHer for LoRA as published |")
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| all", "–", "–"],  # Linea was not run on the split ``other``
        ["| lora", "1.00 (0.48–1.00)", "–"],
    ]


def test_a_split_s_file_says_what_the_split_took_to_make(filled):
    (filled / "tiny-v1" / "made.md").write_text("Made in a minute.\n")
    assert tables_of(filled).endswith("\n## How it was made\n\nMade in a minute.\n")
    assert "How it was made" not in tables_of(filled, "other-v1")


def test_the_summary_says_what_the_regime_map_says(filled, tmp_path):
    assert "regimes/" not in write_markdown(filled, tmp_path).read_text()
    about = filled / "regimes" / "about.md"
    about.parent.mkdir(exist_ok=True)
    about.write_text("Kurtosis is right now and then.\n")
    text = write_markdown(filled, tmp_path).read_text()
    assert "Kurtosis is right now and then.\nThe map is [drawn](regimes/map.svg)" in text


def test_the_summary_names_the_studies_of_the_folder(filled, tmp_path):
    assert "## Studies" not in write_markdown(filled, tmp_path).read_text()
    for name, text in {
        "scale": "# Do sizes matter?\n\nYes.\n",
        "submissions": "# Send in\n",
        "notes": "no heading\n",
    }.items():
        (filled / name).mkdir(exist_ok=True)
        (filled / name / "README.md").write_text(text)
        if name != "submissions":
            (filled / name / "scale.csv").write_text("a\n1\n")
    (filled / "tiny-v1" / "README.md").write_text("# tiny\n")
    text = write_markdown(filled, tmp_path).read_text()
    assert "## Studies\n\n- [Do sizes matter?](scale/README.md)\n" in text
    assert "Send in" not in text
    assert "](notes/README.md)" not in text
