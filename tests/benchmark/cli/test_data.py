"""The commands on data: ``verify``, ``describe``, and a hidden split with its labels."""

import json
import shutil

from mothr.benchmark.data.dataset import commitment
from mothr.benchmark.records import store


def test_verify_prints_sound_or_the_problems(mothr, data, refused):
    assert mothr("verify", data).out.endswith("sound\n")
    assert mothr("verify", data, "--json").json == {
        "ok": True, "models": 14, "notes": ["14 models, 0.2 MB", "2 trees, 12 edges; 14 nodes learned"], "problems": [],
    }  # fmt: skip
    path = min((data / "models").iterdir()) / "config.json"
    path.write_text("{}")
    called = mothr("verify", data)
    assert called.code == 1
    assert f"problem: {path}: its hash differs" in called.out
    called = mothr("verify", data, "--json")
    assert called.code == 1
    assert called.json["ok"] is False
    assert len(called.json["problems"]) == 1
    refused(mothr("verify", data / "models"), "missing manifest; not a data set")


def test_a_hidden_split_is_verified_run_and_scored_with_its_labels_and_results_do_not_reveal_them(
    mothr, data, tmp_path, refused
):
    labels, out = tmp_path / "labels", tmp_path / "results"
    labels.mkdir()
    (labels / "salt").write_text("a" * 64)
    (data / "truth.json").rename(labels / "truth.json")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["commitment"] = commitment(labels)
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert mothr("verify", data).code == mothr("verify", data, "--labels", labels).code == 0
    refused(
        mothr("run", "null-star", data, "--out", out),
        "a hidden split or a plain folder can be predicted on, but not scored",
    )
    refused(mothr("describe", data), "a hidden split or a plain folder can be predicted on, but not scored")
    assert mothr("describe", data, "--labels", labels, "--json").json["datasets"][0]["edges"] == 12
    assert mothr("run", "null-star", data, "--labels", labels, "--out", out, "--in-process").code == 0
    assert sorted(path.name for path in (out / "tiny-v1").iterdir()) == ["manifest.json", "runs.jsonl"]
    assert {record.setting for record in store.read_all(out)} == {"open"}
    for words in (("null-star", "--setting", "known-trees"), ("oracle-star",)):
        refused(mothr("run", *words, "--labels", labels, "--out", out, "--in-process", data), "hidden")
    assert len(list((out / "tiny-v1").iterdir())) == 2
    record = out / "tiny-v1" / "runs.jsonl"
    scored = mothr("score", record, data, "--labels", labels, "--json")
    assert scored.json["metrics"]["edge_f1"] == json.loads(record.read_text())["metrics"]["edge_f1"]
    value = json.loads((labels / "truth.json").read_text())
    value["version"] = 2
    (labels / "truth.json").write_text(json.dumps(value))
    refused(mothr("score", record, data, "--labels", labels), "is not the truth that")


def test_describe_prints_what_varies_and_quantiles(mothr, data):
    called = mothr("describe", data)
    assert called.code == 0
    lines = called.out.splitlines()
    assert lines[0] == "tiny v1: 14 models, 2 trees, 12 edges"
    assert any(line.startswith("models of a tree (2 trees)") and line.endswith("7 (2)") for line in lines)
    assert any(line.startswith("length of an update over its parent's") and " 8 " in line for line in lines)


def test_describe_compares_with_data_sets_and_files_and_draws_a_figure(mothr, data, build_data, tmp_path):
    other, out = build_data(tmp_path / "other", trees=1, seed=3), tmp_path / "out"
    first = mothr("describe", data, "--compare", other, "--out", out, "--json").json
    assert first["files"] == [str(out / "updates.svg"), str(out / "updates.json")]
    assert [value["edges"] for value in first["datasets"]] == [12, 6]
    assert first["datasets"] == json.loads((out / "updates.json").read_text())["datasets"]
    svg = (out / "updates.svg").read_text()
    assert "How the models of tiny v1 differ" in svg
    again = mothr("describe", other, "--compare", out / "updates.json", "--out", out, "--json").json
    assert again["datasets"][1:] == first["datasets"]
    assert again["datasets"][0] == first["datasets"][1]
    assert {row["name"] for row in again["varies"]} >= {"models of a tree", "kind of edge", "storage", "parameters"}


def test_describe_of_a_single_model_says_none(mothr, tiny, sealed, tmp_path):
    data, node = tmp_path / "data", min((tiny / "models").iterdir())
    shutil.copytree(node, data / "models" / node.name)
    nodes = {node.name: {"parents": []}}
    (data / "truth.json").write_text(json.dumps({"schema_version": 1, "split": "tiny", "version": 1, "nodes": nodes}))
    called = mothr("describe", sealed(data), "--out", tmp_path / "out")
    assert called.code == 0
    assert called.out.count(" none ") == 8
    assert (tmp_path / "out/updates.svg").read_text().count(">none<") == 8


def test_describe_names_what_it_cannot_read(mothr, data, tmp_path, refused):
    refused(mothr("describe", data, "--compare", tmp_path / "absent"), "no such data set or file")
    (tmp_path / "updates.json").write_text("{}")
    refused(mothr("describe", data, "--compare", tmp_path / "updates.json"), "field 'datasets' is missing")
    (data / "truth.json").unlink()
    refused(mothr("describe", data), "no truth here")
