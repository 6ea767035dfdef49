"""What the README tells a newcomer to type works: the quickstart, then its three recipes, on the forest it made."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
MOTHR = str(Path(sys.executable).with_name("mothr"))


def mothr(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run([MOTHR, *arguments], cwd=cwd, env=settings, capture_output=True, text=True, check=False)


def commands() -> list[str]:
    """Returns every line of the README's console blocks that calls mothr."""
    blocks = re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line[line.index("mothr ") :] for line in lines if re.search(r"\bmothr [a-z]", line)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A folder in which ``mothr quickstart`` was run, and what it printed."""
    place = tmp_path_factory.mktemp("newcomer")
    return place, mothr("quickstart", cwd=place, MOTHR_CACHE=str(place / "cache"))


def test_quickstart_ends_by_naming_the_page_it_wrote(made):
    place, done = made
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    page = place / last.removeprefix("open ").removesuffix(" in a browser")
    assert page.name == "index.html"
    assert "<!doctype html>" in page.read_text(encoding="utf-8").lower()


def test_every_model_of_quickstart_learned(made):
    place, _ = made
    done = mothr("verify", "quickstart/data", "--json", cwd=place)
    assert json.loads(done.stdout)["problems"] == []
    assert json.loads(done.stdout)["models"] == 13


def test_quickstart_ran_every_registered_method_in_both_settings(made):
    place, _ = made
    names = {row["name"] for row in json.loads(mothr("list", "methods", "--json", cwd=place).stdout)}
    records = [json.loads(path.read_text()) for path in (place / "quickstart/results/quickstart-v1").glob("*-*.json")]
    assert {(record["method"], record["setting"]) for record in records} == {
        (n, s) for n in names for s in ("open", "known-trees")
    }
    assert {record["status"] for record in records} == {"ok"}


def test_the_example_of_a_new_method_runs_as_printed(made):
    place, _ = made
    [code] = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    (place / "mine.py").write_text(code)
    for command in [line for line in commands() if "mine:" in line]:
        arguments = ["quickstart/data" if word == "data/vthr-ft" else word for word in shlex.split(command)[1:]]
        done = mothr(*arguments, cwd=place, PYTHONPATH=".")
        assert done.returncode == 0, done.stderr + done.stdout
    assert list((place / "scores" / "quickstart-v1").glob("mine*.json"))


def test_the_ablation_runs_as_printed_and_leaves_a_table_and_a_picture(made):
    place, _ = made
    [command] = [line for line in commands() if line.startswith("mothr ablate")]
    done = mothr(
        *["quickstart/data" if word == "data/vthr-ft" else word for word in shlex.split(command)[1:]], cwd=place
    )
    assert done.returncode == 0, done.stderr
    table = (place / "ablation/ablation.csv").read_text()
    for score in ("kurtosis", "norm", "residual_independence", "random", "oracle"):
        assert score in table
    assert (place / "ablation/ablation.svg").is_file()


def test_the_prediction_file_of_the_readme_has_the_form_that_score_reads(made):
    place, _ = made
    [example] = re.findall(r"`(\{\"schema_version\".*?\}\})`", TEXT)
    assert set(json.loads(example)) == {"schema_version", "parents"}
    truth = json.loads((place / "quickstart/data/truth.json").read_text())
    prediction = {"schema_version": 1, "parents": {node: value["parents"] for node, value in truth["nodes"].items()}}
    (place / "prediction.json").write_text(json.dumps(prediction))
    done = mothr("score", "prediction.json", "quickstart/data", "--json", cwd=place)
    assert json.loads(done.stdout)["metrics"]["edge_f1"] == 1


def test_every_command_the_readme_shows_exists(tmp_path):
    verbs = {shlex.split(line)[1] for line in commands()}
    assert {"generate", "verify", "run", "leaderboard", "list", "quickstart"} <= verbs
    for verb in sorted(verbs):
        done = mothr(verb, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "Example: mothr" in done.stdout


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
