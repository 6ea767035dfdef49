"""Families on the Hub: the data of the MoTHer paper (VTHR), and trees of Stable Diffusion 1 and Llama 2.

Each repository is downloaded at one commit. ``revisions.json`` in the data set names these commits, and the same
file makes the same data set again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Relation
from mothr.benchmark.storage import read_json
from mothr.generators.real.family import Content, Convert, LeftOut, Network, Options, RealFamily
from mothr.generators.real.online.tables import rows
from mothr.generators.real.readers.tensors import damaged
from mothr.generators.sources.hub import latest_revision, snapshot
from mothr.generators.train.model_files import write_tensors

REVISION = re.compile(r"[0-9a-f]{40}")
"""The form of a commit."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """One model on the Hub, with what documents say about it."""

    repository: str
    """Its repository."""
    parent: str | None
    """Repository of its parent."""
    evidence: str
    """Address and kind of the document."""
    relation: Relation = "finetune"
    """How it was made from its parent."""
    subtype: str = "full"
    """A finer kind of the relation."""


def obtain(models: Sequence[HubModel], patterns: Sequence[str], options: Options) -> tuple[Content, Convert]:
    """Downloads all models at fixed revisions; returns networks and parents, and how one is converted.

    Raises:
        MothrError: a repository is absent or needs a login, it has no safetensors, or there is no network.
    """
    pinned = _pinned(models, options)
    folders: dict[str, Path] = {}
    for number, model in enumerate(models, 1):
        options.progress(f"{number}/{len(models)} {model.repository}")
        folder = snapshot(model.repository, pinned[model.repository], model.repository, patterns)
        if not any(folder.rglob("*.safetensors")):
            raise MothrError(f"{model.repository}: has no safetensors, and pickled weights are not read; report this")
        folders[model.repository] = folder

    def convert(network: Network, target: Path) -> None:
        home = folders[network.archive]
        for path in sorted(home.rglob("*.safetensors")):
            try:
                tensors = load_file(path)
            except (SafetensorError, OSError) as error:
                raise damaged(f"{network.archive}: {path.name}", f"safetensors cannot read it ({error})") from None
            place = target / path.relative_to(home)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_tensors({key: value for key, value in tensors.items() if value.is_floating_point()}, place)

    return Content([_network(model) for model in models], versions=pinned), convert


def _network(model: HubModel) -> Network:
    relation, subtype = (model.relation, model.subtype) if model.parent else (None, None)
    parents = (model.parent,) if model.parent else ()
    return Network(model.repository, model.repository, (), None, parents, relation, subtype, model.evidence)


def _pinned(models: Sequence[HubModel], options: Options) -> dict[str, str]:
    """Returns the commit of each repository: from the user's file, or the current one on the Hub."""
    if options.revisions is None:
        return {model.repository: latest_revision(model.repository) for model in models}
    given = read_json(options.revisions)
    for model in models:
        revision = given.get(model.repository) if isinstance(given, dict) else None
        if not isinstance(revision, str) or not REVISION.fullmatch(revision):
            raise MothrError(
                f"{options.revisions}: has no revision of {model.repository}, 40 hex digits; "
                "give the revisions.json of a data set of this family"
            )
    return {model.repository: given[model.repository] for model in models}


# VTHR

VTHR = "the name of each repository of the organisation MoTHer-VTHR has its tree and depth, and vthr_v1.csv has the parents"
OWNERS = {"ft": "MoTHer-VTHR/VTHR-FT", "lora-f": "MoTHer-VTHR/VTHR-LoRA-F", "lora-v": "MoTHer-VTHR/VTHR-LoRA-V"}
"""Split of VTHR -> the beginning of the names of its repositories."""


def vthr(split: str) -> list[HubModel]:
    """Returns the 105 models of one split of VTHR."""
    table = [row for row in rows("vthr") if row["split"] == split]
    names = {
        row["node"]: f"{OWNERS[split]}-ModelTree_{row['tree']}-Depth_{row['depth']}-Node_{row['node']}" for row in table
    }
    subtype = "full" if split == "ft" else "lora"
    return [
        HubModel(names[row["node"]], names[row["parent"]] if row["parent"] else None, VTHR, subtype=subtype)
        for row in table
    ]


# Trees in the wild

CARD = "model card of {} on the Hub: {}"
SD = "CompVis/stable-diffusion-v1-{}"
STABLE_DIFFUSION = [
    HubModel(SD.format(1), None, CARD.format(SD.format(1), "trained from scratch")),
    HubModel(SD.format(2), SD.format(1), CARD.format(SD.format(2), "resumed from v1-1")),
    HubModel(SD.format(3), SD.format(2), CARD.format(SD.format(3), "resumed from v1-2")),
    HubModel(SD.format(4), SD.format(2), CARD.format(SD.format(4), "resumed from v1-2")),
    HubModel("stable-diffusion-v1-5/stable-diffusion-v1-5", SD.format(2),
             CARD.format("stable-diffusion-v1-5/stable-diffusion-v1-5", "initialized with v1-2")),
]  # fmt: skip
LLAMA, CODE = "meta-llama/Llama-2-7b-hf", "codellama/CodeLlama-7b-hf"
LLAMA_2 = [
    HubModel(LLAMA, None, "Touvron et al. 2023 (arXiv 2307.09288): trained from scratch"),
    HubModel("meta-llama/Llama-2-7b-chat-hf", LLAMA, "Touvron et al. 2023 (arXiv 2307.09288): fine-tuned from Llama 2"),
    HubModel(CODE, LLAMA, "Roziere et al. 2023 (arXiv 2308.12950), section 2: initialized with Llama 2"),
    HubModel("codellama/CodeLlama-7b-Python-hf", CODE, "Roziere et al. 2023 (arXiv 2308.12950), figure 2: from Code Llama"),
    HubModel("codellama/CodeLlama-7b-Instruct-hf", CODE, "Roziere et al. 2023 (arXiv 2308.12950), figure 2: from Code Llama"),
]  # fmt: skip
NOT_COMPARED = LeftOut(
    "other models of this tree in the MoTHer paper",
    "the edges here are cited from model cards and from the models' own papers; whether the figures of the MoTHer paper show the "
    "same models was not checked",
)
SHARDS = ("*.safetensors",)
UNET = ("unet/diffusion_pytorch_model.safetensors",)
"""The weights that Stable Diffusion's training changes."""


def _family(name: str, models: Sequence[HubModel], patterns: Sequence[str], **facts: object) -> RealFamily:
    def get(options: Options) -> tuple[Content, Convert]:
        content, convert = obtain(models, patterns, options)
        left_out = () if name.startswith("vthr") else (NOT_COMPARED,)
        return Content(content.networks, left_out, content.versions), convert

    return RealFamily(
        name=name, archives=(), content=None, obtain=get, tier="online", libraries=("huggingface_hub",),
        networks=len(models), edges=sum(model.parent is not None for model in models), **facts,  # type: ignore[arg-type]
    )  # fmt: skip


FAMILIES = (
    *(
        _family(
            f"vthr-{split}", vthr(split), SHARDS, expected_bytes=105 * 343_000_000,
            description="ViT-B/16 models of the MoTHer paper's data, VTHR: five trees of 1 + 4 + 16 models.",
            licence="as the repositories of MoTHer-VTHR say.",
            notes=("files that are pickled are not read", "the number of bytes is an estimate: 105 models of 343 MB"),
        )
        for split in OWNERS
    ),
    _family(
        "stable-diffusion", STABLE_DIFFUSION, UNET, expected_bytes=5 * 3_438_000_000,
        description="The U-Nets of Stable Diffusion 1.1 to 1.5.", licence="CreativeML Open RAIL-M.",
        notes=("only the U-Nets are downloaded", "the number of bytes is an estimate"),
    ),
    _family(
        "llama-2", LLAMA_2, SHARDS, expected_bytes=5 * 13_500_000_000,
        description="Llama 2 with 7 billion parameters, its chat model, and Code Llama.",
        licence="Llama 2 Community Licence; its owner asks for a login.",
        notes=("needs a login at the Hub: hf auth login", "the number of bytes is an estimate"),
    ),
)  # fmt: skip
