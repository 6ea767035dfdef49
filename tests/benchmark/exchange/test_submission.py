"""A submission from a method in one file to the board, and every submission that must be refused."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.board.board import board
from mothr.benchmark.data.dataset import copy_to_results, open_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.exchange.submission import parse, read, write
from mothr.benchmark.exchange.submission_check import check_folder
from mothr.benchmark.exchange.submission_scores import ScoringInputs, score_submissions
from mothr.benchmark.records import store
from mothr.benchmark.run.isolation import Isolated
from mothr.benchmark.storage import write_json

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
GUIDE = (Path(__file__).parents[3] / "results/submissions/README.md").read_text(encoding="utf-8")
DESCRIBED = {"name": "mine", "authors": ["Ada"], "given": [], "settings": ["open"], "tuned_on": []}
SOURCE = """
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction

def first(models, rng):
    trees, roots = models.given.trees or dict.fromkeys(models.ids, 0), {}
    edges = [(roots[trees[id]], id) for id in models.ids if roots.setdefault(trees[id], id) != id]
    return Prediction(ModelGraph.from_edges(models.ids, edges))

def forgets(models, rng):
    return Prediction(ModelGraph(dict.fromkeys(models.ids[1:], ())))

forgets.tuned_on = ("tiny-dev",)
"""


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    """The current folder. ``results`` has the split ``tiny-v1``, whose labels are known, and ``hidden-v1``, whose are not."""
    monkeypatch.chdir(tmp_path)
    copy_to_results(tiny, Path("results/tiny-v1"))
    Path("results/hidden-v1").mkdir()
    manifest = (tiny / "manifest.json").read_text().replace('"tiny"', '"hidden"')
    Path("results/hidden-v1/manifest.json").write_text(manifest)
    return tmp_path


@pytest.fixture
def lab(home, monkeypatch):
    """The name of a module on the path that is not imported yet."""
    (home / "lab_of_submissions.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(home)
    monkeypatch.delitem(sys.modules, "lab_of_submissions", raising=False)
    return "lab_of_submissions"


@pytest.fixture
def truth(tiny):
    return open_truth(tiny).graph.to_json()


def put(folder, files=(), **changes):
    """Writes a submission: its description with changes, without the keys whose value is None, and its files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description = {key: value for key, value in (DESCRIBED | changes).items() if value is not None}
    (folder / "submission.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    for name, value in dict(files).items():
        value = {"schema_version": 1, "parents": value} if "parents" not in value else value
        (folder / name).write_text(json.dumps(value))
    return folder


def faults(folder):
    """Returns the faults of a submission."""
    findings = check_folder(Path(folder), Path("results")).findings
    return [f"{finding.rule}: {finding.text}" for finding in findings if finding.status != "ok"]


def score(**options):
    """Scores all submissions; returns (submission, board) -> (status, text)."""
    rows = score_submissions(ScoringInputs(Path("results"), Path("data"), **options))
    return {(row.submission, row.board): (row.status, row.text) for row in rows}


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
    described = {key: value for key, value in DESCRIBED.items() if key != "given"} | {"settings": ["known-trees"]}
    submission, problems = parse(yaml.safe_dump(described | {"told": ["trees"]}).encode())
    assert (submission.given, problems) == (["trees"], [])
    submission, [problem] = parse(yaml.safe_dump(described | {"told": ["trees"], "given": ["trees"]}).encode())
    assert submission is None
    assert "unknown field 'told'" in problem
    _, [problem] = parse(yaml.safe_dump(described).encode())
    assert "field 'given' is missing" in problem


# --- faulty submissions ---


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"authors": None}, "field 'authors' is missing; see results/submissions/README.md"),
        ({"authers": ["Ada"]}, "unknown field 'authers'; did you mean authors"),
        ({"metrics": {"edge_f1": 1.0}}, "unknown field 'metrics'"),
        ({"verified": True}, "unknown field 'verified'"),
        ({"authors": []}, "authors: List should have at least 1 item"),
        ({"authors": ["A\u202eda"]}, "holds characters that cannot be shown"),
        (
            {"given": ["tres"]},
            r"given.0: Input should be 'metadata', 'tree_count', 'trees' or 'truth' \(given: 'tres'\)",
        ),
        ({"given": ["truth"]}, "is an oracle, which cannot be submitted; remove 'truth'"),
        ({"given": ["trees"]}, "'settings' lacks 'known-trees'; add it"),
        ({"settings": ["known-trees"]}, "add 'trees' to 'given'"),
        ({"settings": ["open", "open"]}, "names something twice"),
        (
            {"tuned_on": ["tiny-v1"]},
            "'tiny-v1' is for testing: scores of a method that was tuned on its truth say nothing .* such as tiny-dev",
        ),
        ({"tuned_on": ["Tiny"]}, "'Tiny' is for testing"),
        ({"tuned_on": ["hidden"]}, "'hidden' is for testing"),
        ({"name": "mother-v1"}, "too similar to 'mother-v1', which is a registered method"),
        ({"name": "lin-ea"}, "too similar to 'linea'"),
        ({"name": "linea", "method": "linea"}, "too similar to 'linea'"),
        ({"name": "null-mine"}, "begins with 'null-', which is reserved for bounds; choose another name"),
        ({"name": "oracle-mine"}, "begins with 'oracle-'"),
        ({"name": "../mine"}, "is no name for a folder"),
        ({"name": "Mine"}, "is no name for a folder"),
        ({"paper": "javascript:alert(1)"}, "paper: String should match"),
        ({"version": 1.1}, r"version: Input should be a valid string \(given: 1.1\)"),
    ],
)
def test_a_faulty_description_is_refused_with_the_remedy(home, truth, changes, expected):
    problems = faults(put("mine", {"tiny-v1.json": truth}, **changes))
    assert len(problems) == 1, problems
    assert re.search(f"submission.yaml: .*{expected}", problems[0]), problems


def without_one(parents):
    left_out = min(parents)
    return {
        node: [parent for parent in named if parent != left_out] for node, named in parents.items() if node != left_out
    }


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without_one, "as a prediction on tiny-v1 it leaves out 1 model, '.*' among them; name each of the 14 once"),
        (lambda parents: {**parents, "0" * 12: []}, "adds 1 model, '000000000000' among them"),
        (lambda parents: dict.fromkeys(parents, list(parents)[:1]), "cycle"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "metrics": {"edge_f1": 1.0}},
            "holds scores, which are never submitted",
        ),
        (lambda parents: {"schema_version": 1, "parents": parents, "sure": 1}, "unknown key 'sure'"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "abstained": ["\x1b[2J"]},
            r"unknown model '\\x1b\[2J'",
        ),
        (lambda parents: {"schema_version": 1, "parents": parents, "abstained": ["\ud800"]}, "half a character"),
        (
            lambda parents: {"schema_version": 1, "parents": parents, "relations": {min(parents): "son"}},
            "unknown relation",
        ),
    ],
)
def test_a_faulty_prediction_is_refused_with_the_remedy(home, truth, spoil, expected):
    [problem] = faults(put("mine", {"tiny-v1.json": spoil(truth)}))
    assert re.search(f"tiny-v1.json: .*{expected}", problem), problem


def test_every_fault_is_named_at_once_and_nothing_is_written(home, truth, mothr):
    secret = home / "secret.json"
    secret.write_text(json.dumps({"schema_version": 1, "parents": truth}))
    folder = put(
        "mine", {"tiny-v1.json": without_one(truth), "tiny-v2.json": truth}, name="mother-v2", given=["trees"], extra=1
    )
    (folder / "hidden-v1.json").symlink_to(secret)
    (folder / "more").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "tiny-v3.json").write_bytes(b"[" * (1 << 24) + b"[")
    (folder / "tiny-v4.json").write_text('{"parents": {}, "parents": {}}')
    (folder / "tiny-v1-open.json").write_text("1" * 5000)
    called = mothr("submit", folder)
    assert called.code == 1
    for part in (
        "hidden-v1.json", "is a link", "is no file", "is neither submission.yaml nor", "16,777,217 bytes, of 16,777,216 allowed",
        "registered method", "lacks 'known-trees'; add it", "unknown field 'extra'", "leaves out 1 model",
        "unknown split 'tiny-v2'", "not valid JSON (a number of 5000 digits", "11 to mend",
    ):  # fmt: skip
        assert part in called.out
    assert "Traceback" not in called.err
    assert not Path("results/submissions").exists()
    assert mothr("submit", "nowhere").err.startswith("error: no folder 'nowhere'; and unknown method 'nowhere'")


def test_the_split_and_the_setting_of_a_file_must_be_clear(home, truth):
    both = {"given": ["trees"], "settings": ["known-trees", "open"]}
    [problem] = faults(put("a", {"tiny-v1.json": truth}, **both))
    assert "make it tiny-v1-known-trees.json and tiny-v1-open.json" in problem
    assert (
        faults(
            put(
                "b",
                {"tiny-v1-known-trees.json": truth, "tiny-v1-open.json": truth, "hidden-v1-open.json": truth},
                **both,
            )
        )
        == []
    )
    [problem] = faults(put("b", {"hidden-v1-known-trees.json": truth}, **both))
    assert "withheld, so its trees are not given to anybody" in problem
    write_json(Path("results/tiny-v1/superseded.json"), {"superseded_by": "tiny-v2", "reason": "a leak"})
    Path("b/hidden-v1-known-trees.json").unlink()
    assert "send a prediction on tiny-v2 instead" in " ".join(
        finding.text for finding in check_folder(Path("b"), Path("results")).findings
    )
    [problem] = faults(put("c", {"tiny-v1-known-trees.json": truth}))
    assert "lacks 'known-trees'" in problem
    [problem] = faults(put("d", {"tiny-v1.json": truth, "tiny-v1-open.json": truth}))
    assert "another file is for the same split and setting" in problem
    assert "holds no prediction" in faults(put("e"))[0]
    problems = faults(put("f", {"tiny-v1.json": truth}, method="lab:first"))
    assert ["remove one of them" in problems[0], "no address of its code" in problems[1]] == [True, True]


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


def test_a_submission_is_whole_or_absent_and_only_its_authors_replace_it(home, truth, mothr, monkeypatch):
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


# --- scoring ---


def test_predictions_are_scored_as_self_run_and_again_only_if_they_changed(home, truth):
    both = {"given": ["tree_count", "trees"], "settings": ["known-trees", "open"], "tuned_on": ["tiny-dev"]}
    files = {
        "tiny-v1-open.json": truth,
        "tiny-v1-known-trees.json": dict.fromkeys(truth, ()),
        "hidden-v1-open.json": truth,
    }
    put("results/submissions/mine", files, **both)
    boards = [("mine", board) for board in ("tiny-v1, open", "tiny-v1, known-trees", "hidden-v1, open")]
    rows = score()
    assert [rows[board][0] for board in boards] == ["scored", "scored", "not scored"]
    assert rows[boards[0]][1] == "self-run: edge F1 1.000"
    records = {record.setting: record for record in store.read_all(Path("results"))}
    assert {setting: record.given for setting, record in records.items()} == {
        "open": ["tree_count"],
        "known-trees": ["tree_count", "trees"],
    }
    assert records["known-trees"].metrics["edge_f1"] == 0
    for record in records.values():
        assert (record.verified, record.submission, record.method, record.seconds, record.packages) == (
            False,
            "mine",
            "mine",
            None,
            {},
        )
    assert [status for status, _ in score().values()].count("unchanged") == 2
    Path("labels/hidden-v1").mkdir(parents=True)
    withheld = Path("results/tiny-v1/truth.json").read_text()
    Path("labels/hidden-v1/truth.json").write_text(withheld)
    with pytest.raises(MothrError, match="holds the truth of tiny, version 1, and not of hidden-v1"):
        score(labels=Path("labels"))
    Path("labels/hidden-v1/truth.json").write_text(withheld.replace('"tiny"', '"hidden"'))
    assert score(labels=Path("labels"))[boards[2]] == ("scored", "self-run: edge F1 1.000")
    assert score()[boards[2]][0] == "unchanged"  # though its labels are not at hand now
    put("results/submissions/mine", {"tiny-v1-open.json": dict.fromkeys(truth, ())}, **both)
    Path("results/submissions/mine/tiny-v1-known-trees.json").unlink()
    rows = score()
    assert [rows[board][0] for board in boards] == ["scored", "removed", "unchanged"]
    shutil.rmtree("results/submissions/mine")
    assert {status for status, _ in score().values()} == {"removed"}
    assert store.read_all(Path("results")) == []


def test_no_submission_changes_the_records_of_others(home, tiny, truth, mothr):
    assert mothr("run", "null-star", tiny, "--setting", "open", "--in-process").code == 0
    assert mothr("run", "null-mst-random-root", tiny, "--setting", "open", "--in-process").code == 0
    [first, second] = store.read_all(Path("results"))
    store.write(second.model_copy(update={"method": "mine", "parameters": {}, "method_version": "0"}), Path("results"))
    before = {path: path.read_bytes() for path in Path("results").rglob("*.jsonl")}
    assert len(before) == 1
    put("results/submissions/mine", {"tiny-v1.json": truth})
    put("results/submissions/yours", {"tiny-v1.json": truth})
    put("results/submissions/null-star", {"tiny-v1.json": truth}, name=first.method)
    put(
        "results/submissions/scored",
        {"tiny-v1.json": {"schema_version": 1, "parents": truth, "metrics": {}}},
        name="scored",
    )
    Path("results/submissions/linked").symlink_to(put("elsewhere", {"tiny-v1.json": truth}, name="linked"))
    rows = score()
    assert {status for status, _ in rows.values()} == {"FAILED"}
    assert "which no submission replaces" in rows["mine", "tiny-v1, open"][1]
    assert "its 'name' is 'mine'" in rows["yours", ""][1]
    assert "reserved for bounds" in rows["null-star", ""][1]
    assert "holds scores" in rows["scored", ""][1]
    assert "is a link" in rows["linked", ""][1]
    assert before == {path: path.read_bytes() for path in before}
    called = mothr("score-submissions", "results")
    assert called.code == 1
    assert "5 of the submissions cannot be scored: linked, mine, null-star, scored, yours" in called.err


def test_a_method_is_checked_run_here_once_and_verified(home, lab, tiny, mothr, monkeypatch):
    command = ("submit", f"{lab}:first", "--author", "Ada", "--code", "https://example.org")
    assert "'name' is missing" in mothr(*command).out
    called = mothr(*command, "--name", "mine")
    assert called.code == 0, called.out + called.err
    assert "memory" in called.out  # a rule of conduct
    submission = read(Path("results/submissions/mine"))
    assert (submission.given, submission.settings, submission.method) == (
        ["trees"],
        ["known-trees", "open"],
        f"{lab}:first",
    )
    assert score()["mine", "tiny-v1, open"][0] == "not scored"
    Path("data").mkdir()
    shutil.copytree(tiny, "data/tiny")
    rows = score()
    assert rows["mine", "tiny-v1, open"][1].startswith("verified: edge F1 0.")
    assert rows["mine", "hidden-v1, open"] == (
        "not scored",
        "the labels are withheld; name their folder with --labels",
    )
    sys.modules.pop(lab)  # where it was read what the method says of itself
    assert score(seeds=2)["mine", "tiny-v1, open"][0] == "scored"
    assert lab not in sys.modules  # its code ran elsewhere
    monkeypatch.setattr(Isolated, "_run", None)  # nothing is run again
    assert {status for status, _ in score().values()} == {"unchanged", "not scored"}
    records = store.read_all(Path("results"))
    assert {(record.setting, record.seed, record.verified, record.submission) for record in records} == {
        (setting, seed, True, "mine") for setting in ("known-trees", "open") for seed in (0, 1)
    }
    assert set(board(records)["standing"]) == {"verified"}
    assert {tuple(record.given) for record in records} == {(), ("trees",)}
    assert {record.kind for record in records} == {"method"}


def test_a_method_that_breaks_a_rule_or_is_not_as_described_is_refused(home, lab, tiny):
    about = {"method": f"{lab}:forgets", "code": "https://example.org", "tuned_on": ["tiny-dev"]}
    problems = faults(put("a", **about))
    assert len([problem for problem in problems if "cannot be judged" not in problem]) == 1
    assert problems[0].startswith("prediction: one model, known-trees: the method's prediction leaves out 1 model")
    problems = faults(put("b", **about | {"given": ["tree_count"], "tuned_on": [], "version": 2}))
    assert [re.search("'(given|tuned_on|version)'", problem)[1] for problem in problems] == [
        "given",
        "tuned_on",
        "version",
    ]
    assert "has no attribute 'nothing'" in faults(put("c", **about | {"method": f"{lab}:nothing"}))[0]
    put("results/submissions/mine", **about)
    Path("data").mkdir()
    Path("data/tiny").symlink_to(tiny)
    assert score()["mine", ""][0] == "FAILED"
    assert store.read_all(Path("results")) == []
