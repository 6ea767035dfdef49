"""``mothr fetch`` as a user types it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from mothr.generators.real import catalogue, commands

APP = typer.Typer()
APP.command()(commands.fetch)


def call(*words: str):
    return CliRunner().invoke(APP, list(words))


def test_the_list_names_size_edges_and_licence():
    rows = json.loads(call("--list", "--json").stdout)
    facts = {row["name"]: row for row in rows}
    assert (facts["mhcnuggets"]["networks"], facts["mhcnuggets"]["edges"]) == (299, 295)
    assert "non-commercial" in facts["mhcnuggets"]["licence"]
    assert facts["openmodeldb-esrgan"]["tier"] == "online"
    assert "mhcnuggets  " in call("--list").stdout


def test_a_dry_run_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    text = call("stockfish", "--dry-run").stdout
    assert "13 networks, 4 documented edges, 4 of them to exact copies of a root" in text
    assert "546.2 MB in 11 files" in text
    assert "skipped: the large networks of 17.1 and 18" in text
    facts = json.loads(call("waifu2x", "--dry-run", "--json").stdout)
    assert facts["bytes"] == sum(download["bytes"] for download in facts["downloads"]) > 1e7
    assert any("not scored" in note for note in facts["skipped"])
    assert list(tmp_path.iterdir()) == []


def test_a_family_is_fetched(family, tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue.FAMILIES, "tiny", family)
    result = call("tiny", "--out", str(tmp_path / "data"), "--json")
    assert json.loads(result.stdout) == {"out": str(tmp_path / "data"), "name": "real-tiny", "version": 1, "models": 3}
    assert (tmp_path / "data" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a family; 'mothr fetch --list' shows all"),
        (("chgnt", "--out", "x"), "did you mean chgnet"),
        (("chgnet",), "give a new folder by --out"),
        (("chgnet", "--out", "x", "--archives", "/none"), "/none: no such folder"),
    ],
)
def test_bad_input_is_one_clear_error(words, message):
    result = call(*words)
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
