"""The command line: help, lists, refused names and settings, and ``mothr`` as a process of its own."""

import json
import os
import re
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

SCRIPT = "from mothr.benchmark.cli.main import main; main()"


def groups(text):
    """Returns group -> names of its commands, as ``mothr --help`` lists them."""
    result = {}
    for line in text.split("Options:")[1].splitlines():
        if line.endswith(":"):
            result[line[:-1]] = []
        elif result and (name := re.match(r"  ([\w-]+) +\S", line)):
            list(result.values())[-1].append(name[1])
    return result


# --- help, lists, names ---


def test_help_lists_every_command_in_its_group(mothr):
    result = groups(mothr("--help").out)
    assert list(result) == ["Start", "Data", "Methods", "Studies", "Board", "Own models"]
    for group, expected in {
        "Start": {"quickstart", "list"}, "Data": {"generate", "verify", "describe"},
        "Methods": {"run", "predict", "score", "check", "submit"},
        "Studies": {"ablate", "map", "claims", "compare"}, "Board": {"leaderboard", "rescore", "gaps"}, "Own models": {"export"},
    }.items():  # fmt: skip
        assert expected <= set(result[group])


def test_the_methods_are_listed_with_the_schema_of_their_fields(mothr):
    rows = {row["name"]: row for row in mothr("list", "methods", "--json").json}
    assert set(rows["linea"]) == {"name", "kind", "given", "version", "description", "fields"}
    assert {name: rows[name]["kind"] for name in ("linea", "null-star", "oracle-star", "model-atlas")} == {
        "linea": "method", "null-star": "null", "oracle-star": "oracle", "model-atlas": "metadata",
    }  # fmt: skip
    assert rows["oracle-direction"]["given"] == ["tree_count", "truth"]
    [field] = [field for field in rows["mother-v2"]["fields"] if field["name"] == "lambda_"]
    assert field == {
        "name": "lambda_", "type": "float", "default": 0.3, "description": field["description"],
    }  # fmt: skip
    assert "distance" in field["description"]
    text = mothr("list", "methods").out
    assert re.search(r"^oracle-direction +oracle +tree_count, truth +\d", text, flags=re.MULTILINE)


def test_the_fields_of_one_method_can_be_listed(mothr):
    assert mothr("list", "mother-v2", "--json").json[0]["name"] == "distance"
    assert re.search(r"^lambda_ +float +0\.3 +\S", mothr("list", "mother-v2").out, flags=re.MULTILINE)


def test_every_command_shows_an_example_of_itself(mothr):
    commands = [name for names in groups(mothr("--help").out).values() for name in names]
    assert {"list", "verify", "run", "predict", "score", "leaderboard", "generate", "quickstart"} <= set(commands)
    for command in commands:
        called = mothr(command, "--help")
        assert called.code == 0
        assert f"Example: mothr {command}" in called.out
        assert "--json" in called.out


def test_without_arguments_help_is_shown_and_the_version_is_known(mothr):
    assert "Usage" in mothr().out + mothr().err
    assert re.fullmatch(r"mothr \d+\.\d+\.\d+\S*\n", mothr("--version").out)


@pytest.mark.parametrize("what", ["recipes", "methods", "distances", "directions", "metrics"])
def test_lists_are_tables_for_people_and_one_value_for_machines(mothr, what):
    rows = mothr("list", what, "--json").json
    text = mothr("list", what).out
    assert len(rows) > 1
    assert text.count("\n") == len(rows) + 1
    assert all(row["name"] in text for row in rows)


def test_unknown_names_are_refused_with_near_ones(mothr, tiny, tmp_path, refused):
    out = tmp_path / "out"
    refused(mothr("list", "method"), "unknown list 'method'; did you mean methods")
    known = "known: directions, distances, families, methods, metrics, recipes"
    refused(mothr("list", "zzz", "--json"), f"unknown list 'zzz'; {known}")
    refused(mothr("run", "lina", tiny, "--out", out), "unknown method 'lina'; did you mean linea")
    refused(mothr("predict", "mother_v2", tiny), "unknown method 'mother_v2'; did you mean mother-v2")
    refused(
        mothr("run", "linea", tiny, "--set", "distanse=rms", "--out", out),
        "unknown field of linea 'distanse'; did you mean distance",
    )
    refused(
        mothr("run", "linea", tiny, "--set", "distance=rmse", "--out", out), "unknown distance 'rmse'; did you mean rms"
    )
    refused(mothr("run", "linea,nobody", tiny, "--out", out), "unknown method 'nobody'")
    refused(mothr("run", ",", tiny, "--out", out), "no method in ','", "mothr list methods")
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sharpness=high", "--set sharpness=high: the value does not fit float"),
        ("sharpness=nan", "--set sharpness=nan: the value must be finite"),
        ("sharpness", "--set sharpness: write it as field=value"),
        ("=1", "--set =1: write it as field=value"),
        ("relatedness_threshold=2", "relatedness_threshold is 2.0; it must lie between 0 and 1"),
        ("layers=square-heads", "unknown layers 'square-heads'; did you mean square-head"),
        ("layers=re:(", "not a regular expression"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(mothr, tiny, tmp_path, setting, expected, refused):
    refused(mothr("run", "linea", tiny, "--set", setting, "--out", tmp_path / "out"), expected)
    assert not (tmp_path / "out").exists()


def test_an_error_of_usage_is_printed_on_stderr(mothr, tiny):
    for words, expected in (
        (("run", "linea", tiny, "--setting", "closed"), "'--setting'"),
        (("run", "linea", tiny, "--seeds", "0"), "'--seeds'"),
        (("sing",), "'sing'"),
    ):
        called = mothr(*words)
        assert (called.code, called.out) == (2, "")
        assert expected in called.err


# --- as a process of its own ---


def process(*words, before="", **variables):
    """Returns what ``mothr WORDS`` did in a new process, ``before`` executed first."""
    command = [sys.executable, "-c", f"{before}\n{SCRIPT}", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **variables})


def test_as_a_process_a_method_is_imported_from_pythonpath_and_progress_stays_off_standard_output(tiny, tmp_path, lab):
    words = ("run", "lab:fails,lab:Lonely", tiny, "--setting", "open", "--out", tmp_path / "out", "--json")
    done = process(*words, PYTHONPATH=str(lab))
    assert done.returncode == 1
    assert [row["status"] for row in json.loads(done.stdout)] == ["failed", "ok"]
    assert "error: 1 of 2 runs failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_process_warnings_are_lines_and_on_a_full_disk_the_old_file_stays(plain, tmp_path):
    tensors = load_file(plain / "m2.safetensors")
    del tensors["layers.0.attention.q_proj.weight"]
    save_file(tensors, plain / "m2.safetensors")
    out = tmp_path / "prediction.json"
    out.write_text("old")
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))"
    done = process("predict", "linea", plain, "--out", out, before=full)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("warning: 1 of 4 models lack some of the 10 tensors of layers 'body': m2; m2 lacks 1")
    assert all(line.startswith("warning: ") and "results are not kept; set MOTHR_CACHE" in line for line in lines[1:-1])
    assert lines[-1].startswith(f"error: {out}: cannot write (File too large)")
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["prediction.json"]


def test_the_prediction_is_the_same_in_two_processes_and_with_little_memory(mothr, tiny, monkeypatch, tmp_path):
    wanted = mothr("predict", "mother-v2", tiny, "--set", "n_trees=2").out
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))  # nothing is there yet
    assert mothr("predict", "mother-v2", tiny, "--set", "n_trees=2", "--workers", 2, "--memory", 0.2).out == wanted


def test_the_error_of_too_little_memory_names_both_numbers(mothr, tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    done = mothr("predict", "linea", tiny, "--memory", 1e-6)
    assert done.code == 1
    assert "bytes at a time" in done.err
    assert "the memory budget leaves" in done.err
