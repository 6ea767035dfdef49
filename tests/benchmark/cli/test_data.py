"""The commands on data: ``verify``, and a hidden split with its labels."""

import json

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
