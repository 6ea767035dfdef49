"""A submission from a method in one file to the board: its description and its folder."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.board.board import board
from mothr.benchmark.errors import MothrError
from mothr.benchmark.exchange.submission import parse, read, write
from mothr.benchmark.exchange.submission_check import check_folder
from mothr.benchmark.records import store

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
GUIDE = (Path(__file__).parents[3] / "results/submissions/README.md").read_text(encoding="utf-8")


# --- the worked example ---


def test_the_readme_s_star_goes_from_one_file_to_the_board(home, tiny, mothr, monkeypatch):
    section = README[README.index("## Submit a method") :].split("\n## ")[0]
    [code], [description] = (
        re.findall(f"```{kind}\n(.*?)```", section, flags=re.DOTALL) for kind in ("python", "yaml")
    )
    [block] = re.findall("```console\n(.*?)```", section, flags=re.DOTALL)
    assert len(code.splitlines()) <= 20
    (home / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(home)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (home / "star").mkdir()
    (home / "star/submission.yaml").write_text(description)
    replaced = {"quickstart/data": str(tiny), "star/quickstart-v1.json": "star/tiny-v1.json"}
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("PYTHONPATH=. ").removeprefix("mothr "))
        words = [replaced.get(word, word) for word in words]
        # In processes of their own the runs take longer; this is tested elsewhere.
        called = mothr(*words, *(["--in-process"] if words[0] == "run" else []))
        assert called.code == 0, called.err + called.out
    rows = board(store.read_all(Path("scores"))).set_index("method")
    assert rows["standing"].to_dict() == {"star": "self-run", "mine:star": "run here"}
    assert "star" in (home / "board/index.html").read_text()
    command = ("submit", "mine:star", "--name", "star-c", "--author", "Ada", "--code", "https://example.org/star")
    assert mothr(*command).code == 0
    assert read(Path("results/submissions/star-c")).method == "mine:star"


def test_the_guide_s_description_is_a_legal_one():
    [description] = re.findall("```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    submission, problems = parse(description.encode(), ["vthr-ft-v1"])
    assert problems == []
    assert submission.version == "1"
    assert set(yaml.safe_load(description)) == set(type(submission).model_fields) - {"schema_version"}


def test_the_old_spelling_of_a_description_is_accepted():
    described = {"name": "mine", "authors": ["Ada"], "settings": ["known-trees"], "tuned_on": []}
    submission, problems = parse(yaml.safe_dump(described | {"told": ["trees"]}).encode())
    assert (submission.given, problems) == (["trees"], [])
    submission, [problem] = parse(yaml.safe_dump(described | {"told": ["trees"], "given": ["trees"]}).encode())
    assert submission is None
    assert "unknown field 'told'" in problem
    _, [problem] = parse(yaml.safe_dump(described).encode())
    assert "field 'given' is missing" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 60000, "nested too deep"),
        ("name: &a mine\nauthors: [*a]", "anchor, an alias or a tag"),
        ("name: !!python/object/apply:os.system ['touch owned']", "anchor, an alias or a tag"),
        ("name: a\nname: b", "the key 'name' twice"),
        ("- name", "of lines 'key: value'"),
        ("name: [", "not valid YAML"),
        ("name: 2020-99-99", "not valid YAML"),
        (f"name: 0x{'f' * 9000}", "more than 2000 letters"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("", "of lines 'key: value'"),
    ],
)
def test_yaml_that_is_not_plain_values_is_refused(home, text, expected):
    submission, [problem] = parse(text.encode())
    assert submission is None
    assert expected in problem
    assert os.listdir() == ["results"]


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80)
    | st.text(st.sampled_from("name:authors given[]{}-!&*?|>'\"%@#\n 0x1.~"), max_size=80).map(str.encode)
)
def test_no_bytes_break_the_reader(content):
    submission, problems = parse(content)
    assert submission is None
    assert problems


# --- writing ---


def test_a_submission_is_whole_or_absent_and_only_its_authors_replace_it(home, truth, mothr, monkeypatch, put):
    folder, out = put("sent", {"tiny-v1.json": truth}), Path("results/submissions")
    assert mothr("submit", "--check", folder).out.splitlines()[-1] == "sent: it can be submitted"
    assert not out.exists()
    assert mothr("submit", folder, "--json").json["folder"] == "results/submissions/mine"
    put("sent", version=2)
    assert mothr("submit", folder).code == 0
    assert read(out / "mine").version == "2"
    put("sent", authors=["Eve"])
    assert "exists already, by Ada; choose another name" in mothr("submit", folder).err
    assert os.listdir(out) == ["mine"]
    checked = check_folder(put("sent", version=3), Path("results"))
    monkeypatch.setattr("mothr.benchmark.exchange.submission.write_bytes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(checked.submission, checked.contents, out)
    assert os.listdir(out) == ["mine"]
    assert read(out / "mine").version == "2"
    monkeypatch.undo()
    os.chdir(home)
    (out / "mine").rename(home / "elsewhere")
    (out / "mine").symlink_to(home / "elsewhere")
    with pytest.raises(MothrError, match="by unknown authors"):
        write(checked.submission, checked.contents, out)
    assert read(home / "elsewhere").version == "2"
