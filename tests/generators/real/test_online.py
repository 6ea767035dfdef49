"""The online tier against servers on this machine: one speaks the Hub's protocol, the other has files."""

import dataclasses
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save

from mothr.benchmark.data.dataset import open_truth
from mothr.benchmark.errors import MothrError, Skipped
from mothr.generators.real.build import fetch, id_of
from mothr.generators.real.catalogue import find
from mothr.generators.real.family import Options
from mothr.generators.real.online import openmodeldb, trees

REVISION = "b2" * 20


class Server(ThreadingHTTPServer):
    """Serves the bytes of :attr:`pages`: path -> content."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.requests.append(path)
        body = self.server.pages.get(path)
        self.send_response(200 if body is not None else 404)
        body = body or b""
        if self.path.startswith("/api") or "/resolve/" in self.path:
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    running = Server()
    monkeypatch.setenv("MOTHR_CACHE", str(tmp_path / "cache"))
    yield running
    running.shutdown()


# The Hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch) -> Server:
    """A Hub with the U-Nets of Stable Diffusion, two numbers each, and files that must not be downloaded."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for number, model in enumerate(trees.STABLE_DIFFUSION):
        name = model.repository
        files = {
            "unet/diffusion_pytorch_model.safetensors": save(
                {"w": torch.full((2,), float(number)), "n": torch.tensor([1])}
            ),
            "unet/diffusion_pytorch_model.bin": b"a pickle",
            "vae/diffusion_pytorch_model.safetensors": save({"w": torch.zeros(9)}),
        }
        info = {"id": name, "sha": REVISION, "siblings": [{"rfilename": file} for file in files]}
        tree = [{"type": "file", "path": file, "size": len(data), "oid": "0"} for file, data in files.items()]
        for suffix in ("", f"/revision/{REVISION}"):
            server.pages[f"/api/models/{name}{suffix}"] = json.dumps(info).encode()
        server.pages[f"/api/models/{name}/tree/{REVISION}"] = json.dumps(tree).encode()
        server.pages |= {f"/{name}/resolve/{REVISION}/{file}": data for file, data in files.items()}
    return server


def test_a_tree_on_the_hub_is_downloaded_at_fixed_revisions(hub, tmp_path):
    family, out = find("stable-diffusion"), tmp_path / "data"
    manifest = fetch(family, out)
    truth = open_truth(out)
    assert (len(manifest.models), len(truth.graph.edges)) == (5, 4)
    child = id_of(family.split, "CompVis/stable-diffusion-v1-4")
    assert truth.nodes[child].parents == (id_of(family.split, "CompVis/stable-diffusion-v1-2"),)
    assert "model card of CompVis/stable-diffusion-v1-4" in truth.nodes[child].evidence
    weights = load_file(out / "models" / child / "unet" / "diffusion_pytorch_model.safetensors")
    assert list(weights) == ["w"]
    assert torch.equal(weights["w"], torch.full((2,), 3.0))
    assert not any("vae" in path or path.endswith(".bin") for path in hub.requests)
    pinned = out / "revisions.json"
    assert json.loads(pinned.read_text())["CompVis/stable-diffusion-v1-1"] == REVISION
    assert fetch(family, tmp_path / "again", Options(revisions=pinned)) == manifest


def test_revisions_must_name_every_repository(hub, tmp_path):
    (tmp_path / "revisions.json").write_text('{"CompVis/stable-diffusion-v1-1": "main"}')
    with pytest.raises(MothrError, match=r"has no revision of CompVis/stable-diffusion-v1-1, 40 hex digits"):
        fetch(find("stable-diffusion"), tmp_path / "data", Options(revisions=tmp_path / "revisions.json"))


def test_a_repository_that_vanished_or_holds_pickles_is_an_error(hub, tmp_path):
    name = "CompVis/stable-diffusion-v1-3"
    kept = hub.pages.pop(f"/api/models/{name}")
    with pytest.raises(MothrError, match=name):
        fetch(find("stable-diffusion"), tmp_path / "data")
    hub.pages[f"/api/models/{name}"] = kept
    info = {"id": name, "sha": REVISION, "siblings": [{"rfilename": "unet/diffusion_pytorch_model.bin"}]}
    hub.pages[f"/api/models/{name}/revision/{REVISION}"] = json.dumps(info).encode()
    hub.pages[f"/api/models/{name}/tree/{REVISION}"] = b"[]"
    with pytest.raises(MothrError, match=f"{name}: has no safetensors, and pickled weights are not read"):
        fetch(find("stable-diffusion"), tmp_path / "data")
    assert not (tmp_path / "data").exists()


# OpenModelDB


@pytest.fixture
def tiny(server, monkeypatch) -> dict[str, bytes]:
    """A table of three models, and their files on the server; returns model -> file."""
    files, table = {}, []
    for name, parent, value in (("1x-Root", "", 0.0), ("1x-Child", "1x-Root", 1.0), ("1x-Grandchild", "1x-Child", 2.0)):
        place = io.BytesIO()
        torch.save({"params_ema": {"body.weight": torch.full((2, 2), value)}}, place)
        content = files[name] = place.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        table.append({
            "id": name, "parent": parent, "architecture": "span", "scale": "1", "size": "", "licence": "CC0-1.0", "type": "pth",
            "bytes": str(len(content)), "sha256": digest,
        })  # fmt: skip
        server.pages[f"/files/{digest}"] = content
    monkeypatch.setattr(openmodeldb, "rows", lambda name: table)
    return files


def test_openmodeldb_comes_from_a_mirror(server, tiny, tmp_path):
    family = dataclasses.replace(openmodeldb._family("span"))
    fetch(family, tmp_path / "data", Options(mirror=server.address + "/"))
    truth = open_truth(tmp_path / "data")
    assert len(truth.graph.edges) == 2
    node = id_of(family.split, "1x-Grandchild")
    assert "the uploader's word" in truth.nodes[node].evidence
    assert torch.equal(
        load_file(tmp_path / "data/models" / node / "model.safetensors")["body.weight"], torch.full((2, 2), 2.0)
    )
    card = (tmp_path / "data/README.md").read_text()
    assert "of each model its own: CC0-1.0" in card


def test_files_that_cannot_be_had_are_skipped_and_their_children_are_roots(server, tiny, tmp_path):
    server.pages[f"/files/{hashlib.sha256(tiny['1x-Child']).hexdigest()}"] = b"another file"
    fetch(openmodeldb._family("span"), tmp_path / "data", Options(mirror=server.address))
    truth = open_truth(tmp_path / "data")
    assert (len(truth.nodes), truth.graph.edges) == (2, ())
    orphan = truth.nodes[id_of("real-openmodeldb-span", "1x-Grandchild")]
    assert orphan.evidence == "its parent 1x-Child could not be downloaded and is missing"
    card = (tmp_path / "data/README.md").read_text()
    assert "gives another file" in card
    assert "--archives" in card


def test_a_file_from_elsewhere_and_no_network(server, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(openmodeldb, "RECORDS", server.address + "/none")
    with pytest.raises(Skipped, match=r"no file can be had; .*this needs the network, or --mirror, or --archives"):
        fetch(openmodeldb._family("span"), tmp_path / "data")
    folder = tmp_path / "mine"
    folder.mkdir()
    for content in tiny.values():
        (folder / f"{hashlib.sha256(content).hexdigest()}.pth").write_bytes(content)
    assert len(fetch(openmodeldb._family("span"), tmp_path / "data", Options(archives=folder)).models) == 3


def test_addresses_come_from_the_record_of_a_model(server, tiny, monkeypatch):
    archive = openmodeldb.archives("span")[1]
    resources = [
        {"sha256": "0" * 64, "urls": ["https://example.org/other"]},
        {
            "sha256": archive.sha256,
            "urls": ["https://example.org/file", "ftp://example.org/file", "file:///etc/passwd"],
        },
    ]
    monkeypatch.setattr(openmodeldb, "RECORDS", server.address)
    server.pages["/data/models/1x-Child.json"] = json.dumps({"resources": resources}).encode()
    assert openmodeldb._addresses(archive) == ["https://example.org/file"]
    with pytest.raises(ValueError, match="is not an address of a web server"):
        openmodeldb._get("file:///etc/passwd", 10)
