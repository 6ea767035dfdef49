"""One node: its sources' files -> its own model folder, then the mark that says it is whole."""

import errno
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mothr.benchmark.data.dataset import COMPANIONS, MODELS, fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import (
    cache_folder,
    cannot_write,
    canonical_sha256,
    read_json,
    sha256_of,
    write_bytes,
    write_json,
)
from mothr.benchmark.weights.checkpoint import open_checkpoint
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.topology import PlannedNode
from mothr.generators.sources.source import fetch, identity
from mothr.generators.train.merges import draw_mixing
from mothr.generators.train.train import train
from mothr.generators.train.transforms import transform
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.transforms import Merge

STATE = ".unfinished"
WITHHELD = "withheld"
HEADS = "heads.safetensors"
ROOT_CACHE_VERSION = 1  # raise it whenever the same root recipe gives other weights
TOLERANCE = 1e-3
"""Largest change of an output, relative to the largest output, that counts as none for a permuted copy."""


@dataclass(frozen=True)
class Context:
    """What all nodes of a data set are made with; it travels to the worker processes."""

    family_name: str
    """As the recipe says."""
    model: Mapping[str, Any]
    """The family's model configuration."""
    out: Path
    """The data set's folder."""
    device: str
    """``cpu`` or ``cuda``."""
    hidden: bool = False
    """Whether the split is hidden: its roots are then not kept in the cache, where they would tell which models are roots."""

    @property
    def family(self) -> Family:
        """The family, configured."""
        return FAMILIES[self.family_name](**self.model)

    @property
    def state(self) -> Path:
        """The folder of what is there only while the data set is made."""
        return self.out / STATE

    def place(self, node: NodeId, withheld: bool) -> Path:
        """Returns the folder of a model's files."""
        return (self.state / WITHHELD if withheld else self.out / MODELS) / node

    def folder(self, node: NodeId) -> Path:
        """Returns the folder of a finished model's files, withheld or not."""
        place = self.place(node, withheld=False)
        return place if place.is_dir() else self.place(node, withheld=True)

    def companions(self, node: PlannedNode) -> Path | None:
        """Returns the folder of what the models of its tree share, if this family has such parts."""
        return self.out / COMPANIONS / str(node.root_number) if self.family.has_companions else None

    def objective(self, node: PlannedNode, *, fresh: bool) -> Objective:
        """Returns what ``node`` is trained and tested on, with ``fresh`` heads or those that were kept of it."""
        objective = self.family.objective(
            node.tasks, torch_generator(node.seed, "head"), torch.device(self.device), self.companions(node)
        )
        if not fresh and self.family.has_heads:
            objective.load_state(load_file(self.heads(node.id)))
        return objective

    def heads(self, node: NodeId) -> Path:
        """Returns the file of a finished node's heads, which are no part of the data set."""
        return self.state / "heads" / f"{node}.safetensors"


def make(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context) -> None:
    """Makes ``node`` from its finished ``sources``, and the checkpoints that are kept on the way.

    Raises:
        MothrError: the disk or the GPU's memory is full, models do not fit together, or a permuted copy computes something else.
    """
    work = context.state / "work" / f"{node.id}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    if context.device == "cuda":
        fix_order(context.family.repeats_on_gpu)
    try:
        if node.root is not None:
            record = _root(node, context, work)
        elif node.edge is not None:
            record = _child(node, sources[0], context, work)
        elif node.training is not None:
            record = _student(node, sources[0], context, work)
        else:
            record = _copy(node, sources, context, work)
        _put(node.id, record, work, context, node.withheld)
    except OSError as error:
        raise cannot_write(context.place(node.id, node.withheld), error) from error
    except torch.OutOfMemoryError as error:
        raise MothrError(
            f"node {node.path}: the GPU's memory is full; run it again with fewer --workers, or with --device cpu"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def fix_order(fixed: bool) -> None:
    """Has this process's GPU add up in one order, as a processor always does; torch then refuses what cannot."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS must find when it starts
    torch.use_deterministic_algorithms(fixed)


def _put(node: NodeId, record: dict[str, Any], work: Path, context: Context, withheld: bool = False) -> None:
    """Moves a finished model to its place, then marks it as done."""
    target = context.place(node, withheld)
    shutil.rmtree(target, ignore_errors=True)  # left by a run that was stopped before its mark
    os.replace(work, target)
    write_json(context.state / "done" / node, record)


def _train(
    node: PlannedNode, model: nn.Module, objective: Objective, context: Context, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains ``model``, keeps the checkpoints that are planned on the way, and the heads at the end."""
    training = node.training
    assert training is not None
    kept = dict(node.kept)

    def keep(step: int, checkpoint: nn.Module, record: dict[str, Any]) -> None:
        work = context.state / "work" / f"{kept[step]}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        _save(context.family, checkpoint, work)
        _put(kept[step], {"training": record} if record else {}, work, context)

    model, record = train(
        model,
        objective,
        training,
        node.seed,
        on_step=_counter(node, context),
        keep=tuple(kept),
        on_kept=keep,
        **options,
    )
    if context.family.has_heads:
        _write_tensors(objective.state(), context.heads(node.id))
    return model, record


def _counter(node: PlannedNode, context: Context) -> Callable[[int], None]:
    last = time.monotonic()

    def count(step: int) -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            (context.state / "steps" / node.id).write_text(str(step))

    return count


# Roots


def _root(node: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Trains a root, or copies it from the cache, which is addressed by everything that the weights depend on.

    A given root starts from its source instead of fresh weights, and may be left as it is.
    """
    root, family = node.root, context.family
    assert root is not None
    if root.source is not None and root.training is None:
        _save(family, fetch(root.source, family), work)
        return {}
    digests = family.data_digests(node.tasks)
    key = {
        "cache": ROOT_CACHE_VERSION,
        "family": context.family_name,
        "model": context.model,
        "root": root.model_dump(exclude={"name", "source"}, exclude_none=True),
        **machine(context.device),
        "packages": {name: version(name) for name in family.packages},
        **({"data": digests} if digests else {}),
        **({"heads": True} if family.has_heads else {}),
        **({"source": identity(root.source)} if root.source else {}),
    }
    place = cache_folder("roots") / canonical_sha256(key)
    companions = context.companions(node)

    def home(name: str) -> Path:
        """Returns where a file of the cache entry belongs."""
        if companions is not None and name.startswith(f"{COMPANIONS}/"):
            return companions / name.removeprefix(f"{COMPANIONS}/")
        return context.heads(node.id) if name == HEADS else work / name

    cached = not node.kept and not context.hidden
    if cached:
        found = _recall(place, home)
        if found is not None:
            fix_times(work)
            return {"training": found}
    device = torch.device(context.device)
    if companions is not None:
        shutil.rmtree(companions, ignore_errors=True)
        family.companions(root.seed, companions, device, _counter(node, context))
        fix_times(companions)
    start: dict[str, str | float]
    if root.source is not None:
        model, start = fetch(root.source, family), {"source": str(root.source)}
    else:
        assert root.init is not None
        model = family.build(root.init, root.init_std, torch_generator(node.seed, "weights"))
        start = {"init": root.init, "init_std": root.init_std}
    model, training = _train(node, model.to(device), context.objective(node, fresh=True), context)
    training = {**training, **start}
    _save(family, model, work)
    if cached:
        files = _files(work) | ({HEADS: context.heads(node.id)} if family.has_heads else {})
        if companions is not None:
            files |= {f"{COMPANIONS}/{name}": path for name, path in _files(companions).items()}
        _remember(place, files, training)
    return {"training": training}


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _remember(place: Path, files: Mapping[str, Path], training: Mapping[str, Any]) -> None:
    """Puts a root into the cache; two processes that do so at once put the same bytes."""
    for name, path in files.items():
        write_bytes(place / name, path.read_bytes())
    write_json(
        place / "record.json", {"training": training, "files": {name: sha256_of(path) for name, path in files.items()}}
    )


def _recall(place: Path, home: Callable[[str], Path]) -> dict[str, Any] | None:
    """Copies a whole cache entry's files to where ``home`` says, and returns what the root learned; None if it is not whole."""
    if not (place / "record.json").is_file():
        return None
    record = read_json(place / "record.json")
    if not all(
        (place / name).is_file() and sha256_of(place / name) == digest for name, digest in record["files"].items()
    ):
        return None
    for name in record["files"]:
        write_bytes(home(name), (place / name).read_bytes())
    return dict(record["training"])


# Children, students and copies


def _child(node: PlannedNode, parent: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    assert node.edge is not None
    model = context.family.load(context.folder(parent.id)).to(torch.device(context.device))
    objective = context.objective(node, fresh=True)
    if node.edge.tasks is None and context.family.has_heads:  # its parent's training goes on, with the parent's heads
        objective.load_state(load_file(context.heads(parent.id)))
    model, training = _train(node, model, objective, context, lora=node.edge.lora, rank=node.rank)
    _save(context.family, model, work)
    return {"training": training}


def _student(node: PlannedNode, teacher: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Trains fresh weights, drawn as its teacher's root once was, to answer as the teacher does."""
    assert node.like is not None
    assert node.like.init is not None
    family, device = context.family, torch.device(context.device)
    taught = context.objective(teacher, fresh=False)
    master = family.load(context.folder(teacher.id)).to(device).eval()
    model = family.build(node.like.init, node.like.init_std, torch_generator(node.seed, "weights")).to(device)
    objective = context.objective(node, fresh=True)
    model, training = _train(node, model, objective, context, loss=objective.distillation_loss(master, taught))
    _save(family, model, work)
    training = {**training, "init": node.like.init, "init_std": node.like.init_std}
    return {"training": training, "transform": {"kind": "distilled", "teacher": teacher.id}}


def _copy(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node by a transform of its sources' weights, and measures it as they were measured."""
    assert node.derived is not None
    spec, family, device = node.derived.transform, context.family, torch.device(context.device)
    first = context.folder(sources[0].id)
    file = weight_file(first).name
    mixing = draw_mixing(spec, torch_generator(node.seed, "mixing")) if isinstance(spec, Merge) else ()
    weights = transform(
        spec,
        [load_file(weight_file(context.folder(source.id))) for source in sources],
        base=load_file(weight_file(context.folder(node.base))) if node.base else None,
        mixing=mixing,
        symmetries=family.symmetries(),
        generator=torch_generator(node.seed, "transform"),
    )
    shutil.copytree(first, work)
    _write_tensors(weights, work / file)
    checkpoint = open_checkpoint(work, node.id)
    _write_tensors(
        {name: checkpoint.read(name).float() for name in checkpoint.tensors}, work / file
    )  # as a reader computes with them
    before, after = [], []
    for source in sources:
        objective = context.objective(source, fresh=False)
        original, copy = (family.load(folder).to(device).eval() for folder in (context.folder(source.id), work))
        before.append(round(objective.evaluate(original), 6))
        after.append(round(objective.evaluate(copy), 6))
        if spec.kind == "permuted":
            _check_same_function(node, objective.outputs(original), objective.outputs(copy))
    _write_tensors(weights, work / file)
    fix_times(work)
    found = {
        **spec.model_dump(mode="json", exclude_none=True),
        "of": [source.id for source in sources],
        "metric": objective.metric,
        "before": before,
        "after": after,
        "seed": node.seed,
    }
    if mixing:
        found["mixing"] = [round(share, 6) for share in mixing]
    return {"transform": found}


def _check_same_function(node: PlannedNode, wanted: torch.Tensor, given: torch.Tensor) -> None:
    change = float((wanted - given).abs().max() / wanted.abs().max())
    if not change <= TOLERANCE:
        raise MothrError(
            f"node {node.path}: its permuted copy answers differently (by {change:.2g} of the largest output)"
        )


# Files


def weight_file(folder: Path) -> Path:
    """Returns the one safetensors file of a model that this package has saved."""
    found = sorted(folder.rglob("*.safetensors"))
    if len(found) != 1:
        raise MothrError(
            f"{folder}: holds {len(found)} .safetensors files where one is expected; generate the data set again"
        )
    return found[0]


def _save(family: Family, model: nn.Module, work: Path) -> None:
    """Writes ``model`` and removes what could name its parent: file metadata, header order, config traces, times."""
    try:
        family.save(model.cpu(), work)
    except SafetensorError as error:  # a full disk, as safetensors tells it
        raise cannot_write(work, OSError(errno.ENOSPC, str(error))) from error
    for path in sorted(work.rglob("*")):
        if path.suffix == ".safetensors":
            _write_tensors(load_file(path), path)
        elif path.name == "config.json":
            config = read_json(path)
            write_json(
                path,
                {key: config[key] for key in sorted(config) if key not in ("_name_or_path", "id2label", "label2id")},
            )
    fix_times(work)


def _write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes tensors sorted by name, with nothing in the header but what every file has."""
    try:
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise cannot_write(path, OSError(errno.ENOSPC, str(error))) from error
    path.chmod(0o644)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the part of a machine that training's last bits depend on: the processor, and which instructions torch takes of it.

    Rented machines of different generations may give one name, so that family and model are told as well.

    Args:
        cpuinfo: What Linux says of its processors; where there is none, the platform's name is all.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    said = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))
    }  # the first processor's
    name = said.get("model name") or platform.processor() or platform.machine()
    kind = [f"{key} {said[key]}" for key in ("cpu family", "model") if key in said]
    return ", ".join([name, *kind, torch.backends.cpu.get_cpu_capability()])


def machine(device: str) -> dict[str, str]:
    """Returns all that last bits depend on of the machine that trains on ``device``."""
    return {"processor": processor(), "device": device, **gpu(device)}


def gpu(device: str) -> dict[str, str]:
    """Returns, under ``gpu``, what else last bits depend on where training is done on a GPU: its type, and what computes on it."""
    if device != "cuda":
        return {}
    major, minor = torch.cuda.get_device_capability()
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return {"gpu": f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}, {libraries}"}
