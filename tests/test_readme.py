"""What the README tells a newcomer to type works as printed: the quickstart, then the four blocks, on the models it made."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mothr

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def section(heading: str) -> str:
    """Returns the text below a heading, up to the next one."""
    [text] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)
    return text


def blocks(text: str, language: str) -> list[str]:
    """Returns the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def shell(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs a script as a user's shell does, and stops at the first command that fails."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    settings["MOTHR_CACHE"] = str(folder / "cache")
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


def run_block(heading: str, folder: Path) -> str:
    """Runs every console block of a section as printed; returns what it printed."""
    output = []
    for block in blocks(section(heading), "console"):
        done = shell(block, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        output.append(done.stdout)
    return "\n".join(output)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory) -> tuple[Path, str]:
    """A folder in which ``mothr quickstart`` was run, and what it printed."""
    folder = tmp_path_factory.mktemp("newcomer")
    done = shell("mothr quickstart", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def records(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "runs.jsonl").read_text().splitlines()]


def test_quickstart_ends_by_naming_the_page_it_wrote(newcomer):
    folder, printed = newcomer
    last = printed.strip().splitlines()[-1]
    page = folder / last.removeprefix("open ").removesuffix(" in a browser")
    assert page.name == "index.html"
    assert "<!doctype html>" in page.read_text(encoding="utf-8").lower()


def test_every_model_of_quickstart_learned(newcomer):
    folder, _ = newcomer
    verdict = json.loads(shell("mothr verify quickstart/data --json", folder).stdout)
    assert verdict["problems"] == []
    assert verdict["models"] == 13


def test_quickstart_runs_every_registered_method_in_both_settings(newcomer):
    folder, _ = newcomer
    names = {row["name"] for row in json.loads(shell("mothr list methods --json", folder).stdout)}
    runs = records(folder / "quickstart/results/quickstart-v1")
    assert {(run["method"], run["setting"]) for run in runs} == {(n, s) for n in names for s in ("open", "known-trees")}
    assert {run["status"] for run in runs} == {"ok"}


def test_the_block_on_regenerating_runs_as_printed(newcomer):
    """The quickstart has trained these models already. ``generate`` finds them whole and does not train them again."""
    folder, _ = newcomer
    shutil.copytree(folder / "quickstart/data", folder / "data/quickstart")
    run_block("Regenerate a split", folder)
    assert len(records(folder / "scores/quickstart-v1")) == 2 * len(mothr.methods())
    assert (folder / "board/index.html").is_file()
    assert (folder / "board/quickstart-v1/index.html").is_file()


def test_the_block_on_submitting_runs_as_printed(newcomer):
    folder, _ = newcomer
    [code], [description] = blocks(section("Submit a method"), "python"), blocks(section("Submit a method"), "yaml")
    (folder / "mine.py").write_text(code)
    (folder / "star").mkdir()
    (folder / "star/submission.yaml").write_text(description)
    run_block("Submit a method", folder)
    runs = records(folder / "scores/quickstart-v1")
    assert {run["setting"] for run in runs if run["method"] == "mine:star"} == {"open", "known-trees"}
    assert [run["status"] for run in runs if run["method"] == "star"] == ["ok"]


def test_the_block_on_ablations_runs_as_printed_and_leaves_a_table_and_a_picture(newcomer):
    folder, _ = newcomer
    run_block("Run an ablation", folder)
    table = (folder / "ablation/ablation.csv").read_text()
    for score in ("kurtosis", "norm", "residual_independence", "random", "oracle"):
        assert score in table
    assert (folder / "ablation/ablation.svg").is_file()


def test_the_block_on_a_folder_of_ones_own_runs_as_printed(newcomer):
    folder, _ = newcomer
    printed = run_block("Recover a folder of your own", folder)
    nodes = json.loads((folder / "quickstart/data/truth.json").read_text())["nodes"]
    assert all(node in printed for node in nodes)
    assert (folder / "lineage.graphml").is_file()
    [code] = blocks(section("Recover a folder of your own"), "python")
    done = shell(f"python -c {shlex.quote(code)}", folder)
    assert done.returncode == 0, done.stderr
    assert any(node in done.stdout for node in nodes)


def test_the_prediction_file_of_the_readme_has_the_form_that_score_reads(newcomer):
    folder, _ = newcomer
    [example] = re.findall(r"`(\{\"schema_version\".*?\}\})`", TEXT)
    assert set(json.loads(example)) == {"schema_version", "parents"}
    truth = json.loads((folder / "quickstart/data/truth.json").read_text())
    prediction = {"schema_version": 1, "parents": {node: value["parents"] for node, value in truth["nodes"].items()}}
    (folder / "own.json").write_text(json.dumps(prediction))
    done = shell("mothr score own.json quickstart/data --json", folder)
    assert json.loads(done.stdout)["metrics"]["edge_f1"] == 1


def test_every_command_the_readme_names_exists_and_shows_an_example(tmp_path):
    verbs = set(
        re.findall(
            r"\bmothr ([a-z][a-z-]+)", "\n".join([*blocks(TEXT, "console"), *re.findall(r"`(mothr [^`]+)`", TEXT)])
        )
    )
    assert {"generate", "verify", "run", "leaderboard", "list", "quickstart", "map", "claims", "compare"} <= verbs
    for verb in sorted(verbs):
        done = shell(f"mothr {verb} --help", tmp_path)
        assert done.returncode == 0
        assert "Example: mothr" in done.stdout


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    for link in links:
        assert (README.parent / link).exists(), link


def test_the_table_of_results_is_the_one_that_the_command_prints():
    [table] = re.findall(r"<!-- results:begin -->\n(.*)\n<!-- results:end -->", TEXT, flags=re.DOTALL)
    done = shell("mothr leaderboard results --summary", README.parent)
    assert (done.returncode, done.stdout.strip()) == (0, table.strip()), done.stderr


def test_the_readme_is_short_defines_its_words_and_shows_no_missing_number():
    assert len(TEXT.splitlines()) <= 150
    words = section("Words")
    for word in ("model tree", "recipe", "split", "setting", "known trees", "open"):
        assert f"**{word}**" in words
    assert not re.search(r"\bnan\b", TEXT, flags=re.IGNORECASE)
