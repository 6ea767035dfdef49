"""generate(): the only writer of data sets. Resumable node by node; the manifest comes last."""

import errno
import fcntl
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import mothr.benchmark
from mothr.benchmark.dataset import MANIFEST, MODELS, TRUTH, Manifest, Truth, TruthNode, fix_times, open_manifest, write_manifest
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import (
    cache_folder,
    cannot_write,
    canonical_sha256,
    read_json,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from mothr.generators.card import card
from mothr.generators.families import FAMILIES
from mothr.generators.recipe import Recipe, resolved
from mothr.generators.seeds import torch_generator
from mothr.generators.topology import PlannedNode, plan
from mothr.generators.train import train

STATE = ".unfinished"
ROOT_CACHE_VERSION = 1  # raise it whenever the same root recipe gives other weights


def generate(
    recipe: Recipe, out: Path, *, workers: int = 1, device: str = "auto", executor: Executor | None = None, progress: bool = True
) -> Manifest:
    """Makes the data set of ``recipe`` in the folder ``out`` and returns its manifest.

    Run again after an interruption, it goes on with the nodes that are missing; run again on a whole data set of the
    same recipe, it changes nothing. On one machine type the files are the same, byte for byte, however it was run.

    Args:
        recipe: what to make.
        out: an absent or empty folder, or one that an interrupted run of the same recipe left.
        workers: number of processes; siblings are trained side by side, with one torch thread each.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: runs the nodes instead of a process pool; ``workers`` is then ignored.
        progress: show a bar with the time left on standard error.

    Raises:
        MothrError: ``out`` holds something else, the device is absent, or the disk is full.
    """
    target = _device(device)
    nodes = plan(recipe)
    digest = canonical_sha256(resolved(recipe))
    if (out / MANIFEST).is_file():
        return _finished(out, recipe, digest)
    with _claimed(out, recipe, digest) as state:
        done = {node.id for node in nodes if (state / "done" / node.id).is_file()}
        todo = [node for node in nodes if node.id not in done]
        context = {"family": recipe.family, "model": recipe.model, "out": str(out.resolve()), "device": target}
        if executor is None:
            with _pool(min(workers, max(1, len(todo)))) as pool:
                _make_all(todo, done, context, pool, _bar(nodes, done, recipe.name, progress), state)
        else:
            _make_all(todo, done, context, executor, _bar(nodes, done, recipe.name, progress), state)
        manifest = _finish(recipe, digest, nodes, out, state)
    shutil.rmtree(state, ignore_errors=True)
    return manifest


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise MothrError(f"--device {name}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MothrError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return name


def _finished(out: Path, recipe: Recipe, digest: str) -> Manifest:
    manifest = open_manifest(out)
    if manifest.recipe_sha256 != digest:
        raise MothrError(
            f"{out}: already holds the data set {manifest.name} v{manifest.version}, made from another recipe than {recipe.name} "
            f"v{recipe.version}; choose another --out"
        )
    shutil.rmtree(out / STATE, ignore_errors=True)
    return manifest


@contextmanager
def _claimed(out: Path, recipe: Recipe, digest: str) -> Iterator[Path]:
    """Yields the state folder of ``out``, claimed for this process alone; other content of ``out`` is an error."""
    state = out / STATE
    mark = state / "recipe.json"
    if out.exists() and not out.is_dir():
        raise MothrError(f"{out}: is a file; choose another --out")
    if mark.is_file():
        if read_json(mark).get("sha256") != digest:
            raise MothrError(f"{out}: holds an unfinished data set of another recipe than {recipe.name}; choose another --out or remove it")
    elif out.is_dir() and any(entry.name != STATE for entry in out.iterdir()):
        raise MothrError(f"{out}: holds something else ({min(entry.name for entry in out.iterdir())}); choose an empty or new folder")
    try:
        for part in ("done", "steps", "work"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (out / MODELS).mkdir(exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise cannot_write(state, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MothrError(f"{out}: another process is generating into this folder; wait for it or choose another --out") from None
        write_json(mark, {"name": recipe.name, "sha256": digest})
        yield state


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),))


def _start_worker(parent: int) -> None:
    """Gives a worker one torch thread, and ends it when the process that started it is gone."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _bar(nodes: list[PlannedNode], done: set[str], name: str, progress: bool) -> "tqdm[Any]":
    return tqdm(
        total=sum(node.training.steps for node in nodes),
        initial=sum(node.training.steps for node in nodes if node.id in done),
        desc=name, unit="step", disable=not progress, file=sys.stderr, smoothing=0.02, mininterval=1.0,
    )


def _make_all(
    todo: list[PlannedNode], done: set[str], context: dict[str, Any], executor: Executor, bar: "tqdm[Any]", state: Path
) -> None:
    """Hands each node to ``executor`` as soon as its parent is there; the deepest work waits for nobody."""
    waiting = list(todo)
    running: dict[Future[None], PlannedNode] = {}
    finished = bar.n
    with bar:
        while waiting or running:
            ready = [node for node in waiting if node.parent is None or node.parent in done]
            for node in ready:
                running[executor.submit(_make, node, context)] = node
            waiting = [node for node in waiting if node not in ready]
            ended, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            try:
                for future in ended:
                    node = running.pop(future)
                    future.result()
                    done.add(node.id)
                    finished += node.training.steps
            except BaseException:
                for future in running:
                    future.cancel()
                raise
            bar.update(finished + sum(_steps_of(node, state) for node in running.values()) - bar.n)


def _steps_of(node: PlannedNode, state: Path) -> int:
    try:
        return int((state / "steps" / node.id).read_text())
    except (OSError, ValueError):
        return 0


def _make(node: PlannedNode, context: dict[str, Any]) -> None:
    """Makes one node: its model folder, then the mark that says it is whole."""
    out = Path(context["out"])
    state = out / STATE
    work = state / "work" / f"{node.id}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        record = _root(node, context, work, state) if node.root else _child(node, context, work, state)
        target = out / MODELS / node.id
        shutil.rmtree(target, ignore_errors=True)  # left by a run that was stopped before its mark
        os.replace(work, target)
        write_json(state / "done" / node.id, record)
    except OSError as error:
        raise cannot_write(out / MODELS / node.id, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _counter(node: PlannedNode, state: Path) -> Callable[[int], None]:
    last = time.monotonic()

    def count(step: int) -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            (state / "steps" / node.id).write_text(str(step))

    return count


def _root(node: PlannedNode, context: dict[str, Any], work: Path, state: Path) -> dict[str, Any]:
    """Trains a root, or copies it from the cache, which is addressed by everything that the weights depend on."""
    assert node.root is not None
    family = FAMILIES[context["family"]](**context["model"])
    digests = family.data_digests(node.tasks)
    identity = {
        "cache": ROOT_CACHE_VERSION, "family": context["family"], "model": context["model"], "root": node.root.model_dump(exclude={"name"}),
        "device": context["device"], "processor": _processor(),
        "packages": {name: version(name) for name in family.packages}, **({"data": digests} if digests else {}),
    }
    place = cache_folder("roots") / canonical_sha256(identity)
    if (place / "record.json").is_file():
        record = read_json(place / "record.json")
        if all((place / name).is_file() and sha256_of(place / name) == digest for name, digest in record["files"].items()):
            shutil.copytree(place, work, ignore=shutil.ignore_patterns("record.json"))
            fix_times(work)
            return dict(record["training"])
    device = torch.device(context["device"])
    model = family.build(node.root.init, node.root.init_std, torch_generator(node.seed, "weights")).to(device)
    objective = family.objective(node.tasks, torch_generator(node.seed, "head"), device)
    model, training = train(model, objective, node.training, node.seed, on_step=_counter(node, state))
    training = {**training, "init": node.root.init, "init_std": node.root.init_std}
    _save(family, model, work)
    _remember(work, place, training)
    return training


def _remember(work: Path, place: Path, training: dict[str, Any]) -> None:
    """Puts a root into the cache; two processes that do so at once put the same bytes."""
    files = {path.relative_to(work).as_posix(): path for path in sorted(work.rglob("*")) if path.is_file()}
    for name, path in files.items():
        write_bytes(place / name, path.read_bytes())
    write_json(place / "record.json", {"training": training, "files": {name: sha256_of(path) for name, path in files.items()}})


def _child(node: PlannedNode, context: dict[str, Any], work: Path, state: Path) -> dict[str, Any]:
    assert node.edge is not None
    assert node.parent is not None
    family = FAMILIES[context["family"]](**context["model"])
    device = torch.device(context["device"])
    model = family.load(Path(context["out"]) / MODELS / node.parent).to(device)
    objective = family.objective(node.tasks, torch_generator(node.seed, "head"), device)
    model, training = train(
        model, objective, node.training, node.seed, lora=node.edge.lora, rank=node.rank, on_step=_counter(node, state)
    )
    _save(family, model, work)
    return training


def _save(family: Any, model: torch.nn.Module, work: Path) -> None:
    """Writes ``model`` and removes what could name its parent: file metadata, header order, config traces, times."""
    try:
        family.save(model.cpu(), work)
        _strip(work)
    except SafetensorError as error:  # a full disk, as safetensors tells it
        raise cannot_write(work, OSError(errno.ENOSPC, str(error))) from error


def _strip(work: Path) -> None:
    for path in sorted(work.rglob("*")):
        if path.suffix == ".safetensors":
            tensors = {name: value.contiguous() for name, value in sorted(load_file(path).items())}
            save_file(tensors, path, metadata={"format": "pt"})
            path.chmod(0o644)
        elif path.name == "config.json":
            config = read_json(path)
            write_json(path, {key: config[key] for key in sorted(config) if key not in ("_name_or_path", "id2label", "label2id")})
    fix_times(work)


def _finish(recipe: Recipe, digest: str, nodes: list[PlannedNode], out: Path, state: Path) -> Manifest:
    """Writes truth, recipe and card, then the manifest."""
    known = {}
    for node in sorted(nodes, key=lambda node: node.id):
        known[node.id] = TruthNode(
            parents=() if node.parent is None else (node.parent,),
            relation=None if node.parent is None else "finetune",
            subtype=None if node.edge is None else node.edge.subtype,
            tree=node.tree, depth=node.depth, task="+".join(node.tasks), training=read_json(state / "done" / node.id),
        )
    truth = Truth(split=recipe.name, version=recipe.version, nodes=known)
    write_json(out / TRUTH, truth.model_dump(mode="json"))
    write_text(out / "recipe.toml", tomli_w.dumps(resolved(recipe)))
    write_text(out / "README.md", card(recipe, truth))
    digests = FAMILIES[recipe.family](**recipe.model).data_digests(sorted({task for node in nodes for task in node.tasks}))
    return write_manifest(
        out, name=recipe.name, version=recipe.version, family=recipe.family, mothr_version=mothr.benchmark.__version__,
        recipe_sha256=digest,
        environment={"torch": torch.__version__, "python": platform.python_version(), "cpu": _processor(), **digests},
    )


def _processor() -> str:
    """Returns the processor's model name, the part of a machine that training's last bits depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


