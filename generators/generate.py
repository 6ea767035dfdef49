"""generate(): the only function that writes data sets. It can be resumed node by node, and writes the
manifest last."""

import fcntl
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tqdm import tqdm

import mothr.benchmark
from mothr.benchmark.data.dataset import (
    CROISSANT,
    MANIFEST,
    MODELS,
    RECIPE,
    TRUTH,
    Manifest,
    Truth,
    TruthNode,
    open_manifest,
    open_truth,
    write_manifest,
)
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import canonical_sha256, read_json, write_error, write_json, write_text
from mothr.benchmark.weights.discovery import open_folder
from mothr.generators.cards.card import card
from mothr.generators.cards.croissant import checksum, croissant, hashes
from mothr.generators.cards.differences import FIGURE, describe_models
from mothr.generators.cards.shortcuts import shortcuts
from mothr.generators.data import picture_tasks
from mothr.generators.families import FAMILIES
from mothr.generators.hidden import Hidden, check_folders, hide, publish
from mothr.generators.recipe.drawn import AnyRecipe
from mothr.generators.recipe.loading import resolved
from mothr.generators.recipe.node import PlannedNode, relation_of
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import family_of, plan
from mothr.generators.sources.source import prepare
from mothr.generators.train.context import STATE, WITHHELD, Context
from mothr.generators.train.machine import gpu, machine, processor
from mothr.generators.train.make import make


def generate(
    recipe: AnyRecipe,
    out: Path,
    *,
    workers: int = 1,
    device: str = "auto",
    executor: Executor | None = None,
    progress: bool = True,
    hidden: Hidden | None = None,
) -> Manifest:
    """Makes the data set of ``recipe`` in the folder ``out`` and returns its manifest.

    After an interruption, a second call makes only the missing nodes. If the data set of the same recipe is
    complete, nothing changes. On one machine type the files are the same byte for byte, with any number of
    workers and interruptions. A data set that was started on another machine type is therefore not continued.

    Args:
        recipe: The recipe.
        out: An absent or empty folder, or the folder of an interrupted run of the same recipe.
        workers: Number of processes with one torch thread each; siblings are trained at the same time.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: Runs the nodes instead of a process pool; ``workers`` is then ignored.
        progress: Whether to show a progress bar on standard error.
        hidden: Makes the split a hidden one (see :mod:`mothr.generators.hidden`).

    Raises:
        Skipped: a package with a root, or torchvision, is absent and cannot be downloaded.
        MothrError: ``out`` holds something else or was started on another machine type; the device is absent;
            an existing model cannot be read or does not fit; or the disk is full.
    """
    target = choose_device(device)
    if hidden is not None:
        recipe = hide(recipe, hidden.secret)
    nodes = plan(recipe)
    digest = canonical_sha256(resolved(recipe))
    if hidden is not None:
        check_folders(out, hidden, {node.id for node in nodes if not node.withheld})
    if (out / MANIFEST).is_file():
        return _open_complete(out, recipe, digest, hidden)
    _prepare_roots(recipe, nodes)
    picture_tasks.download(sorted({task for node in nodes for task in node.tasks}))
    with _claimed(out, recipe, digest, target) as state:
        done = {node.id for node in nodes if (state / "done" / node.id).is_file()}
        context = Context(recipe.family, recipe.model, out.resolve(), target, hidden is not None)
        if executor is None:
            with _pool(min(workers, max(1, len(nodes) - len(done)))) as pool:
                _make_all(nodes, done, context, pool, _bar(nodes, done, recipe.name, progress), state)
        else:
            _make_all(nodes, done, context, executor, _bar(nodes, done, recipe.name, progress), state)
        manifest = _finish(recipe, digest, nodes, out, state, hidden, target)
    _clear(state, hidden)
    return manifest


def _prepare_roots(recipe: AnyRecipe, nodes: list[PlannedNode]) -> None:
    """Checks and downloads the existing models that roots start from, for each model configuration."""
    model = recipe.model if isinstance(recipe, Recipe) else {}
    groups: dict[str, list[PlannedNode]] = {}
    for node in nodes:
        if node.root is not None and node.root.source is not None:
            groups.setdefault(canonical_sha256(node.model or model), []).append(node)
    for group in groups.values():
        sources = [node.root.source for node in group if node.root is not None and node.root.source is not None]
        prepare(sources, FAMILIES[recipe.family](**(group[0].model or model)))


def choose_device(name: str) -> str:
    """Returns ``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        MothrError: ``name`` is something else, or there is no CUDA device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise MothrError(f"--device {name}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MothrError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return name


def _clear(state: Path, hidden: Hidden | None) -> None:
    """Removes the temporary files. Those of a hidden split would reveal its labels."""
    shutil.rmtree(state, ignore_errors=True)
    if hidden is not None and state.exists():
        raise MothrError(
            f"{state}: cannot be removed, and it reveals the labels; remove it before you give this data set to anybody"
        )


def _open_complete(out: Path, recipe: AnyRecipe, digest: str, hidden: Hidden | None) -> Manifest:
    """Returns the manifest of a complete data set, after a check that it was made from the same recipe."""
    manifest = open_manifest(out)
    if manifest.recipe_sha256 != digest:
        raise MothrError(
            f"{out}: already holds the data set {manifest.name} v{manifest.version}, made from another recipe than {recipe.name} "
            f"v{recipe.version}; choose another --out"
        )
    _clear(out / STATE, hidden)
    if hidden is not None:
        open_truth(out, hidden.labels)
    return manifest


@contextmanager
def _claimed(out: Path, recipe: AnyRecipe, digest: str, device: str) -> Iterator[Path]:
    """Locks ``out`` for this process and yields its folder of temporary files. Any other content of ``out``
    is an error."""
    state = out / STATE
    started, this_machine = state / "recipe.json", {"torch": torch.__version__, **machine(device)}
    if out.exists() and not out.is_dir():
        raise MothrError(f"{out}: is a file; choose another --out")
    if started.is_file():
        start = read_json(started)
        if start.get("sha256") != digest:
            raise MothrError(
                f"{out}: holds an unfinished data set of another recipe than {recipe.name}; choose another --out or remove it"
            )
        if (other_machine := start.get("machine")) != this_machine:
            raise MothrError(
                f"{out}: was started on another machine type, {_describe(other_machine)}, and this is {_describe(this_machine)}: "
                "the other models would differ in their last bits; finish it there, or choose another --out"
            )
    elif out.is_dir() and any(entry.name != STATE for entry in out.iterdir()):
        raise MothrError(
            f"{out}: holds other files ({min(entry.name for entry in out.iterdir())}); choose an empty or new folder"
        )
    try:
        for part in ("done", "heads", "steps", WITHHELD, "work"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (out / MODELS).mkdir(exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise write_error(state, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MothrError(
                f"{out}: another process is generating into this folder; wait for it or choose another --out"
            ) from None
        write_json(started, {"name": recipe.name, "sha256": digest, "machine": this_machine})
        yield state


def _describe(machine: Mapping[str, str] | None) -> str:
    return "; ".join(f"{key} {value}" for key, value in machine.items()) if machine else "unknown"


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),)
    )


def _start_worker(parent: int) -> None:
    """Sets one torch thread in a worker, and ends the worker when its parent process has ended."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _bar(nodes: list[PlannedNode], done: set[str], name: str, progress: bool) -> "tqdm[Any]":
    return tqdm(
        total=sum(node.steps for node in nodes),
        initial=sum(node.steps for node in nodes if node.id in done),
        desc=name,
        unit="step",
        disable=not progress,
        file=sys.stderr,
        smoothing=0.02,
        mininterval=1.0,
    )


def _make_all(
    nodes: list[PlannedNode], done: set[str], context: Context, executor: Executor, bar: "tqdm[Any]", state: Path
) -> None:
    """Gives each node to ``executor`` as soon as its sources are finished."""
    # A checkpoint is made together with the node during whose training it is kept.
    waiting = [node for node in nodes if node.id not in done and node.checkpoint_of is None]
    running: dict[Future[None], PlannedNode] = {}
    by_id = {node.id: node for node in nodes}
    finished = bar.n
    with bar:
        while waiting or running:
            ready = [node for node in waiting if done.issuperset(node.sources)]
            for node in ready:
                sources = tuple(by_id[source] for source in node.sources)
                running[executor.submit(make, node, sources, context.of_node(node))] = node
            waiting = [node for node in waiting if node not in ready]
            completed, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            try:
                for future in completed:
                    node = running.pop(future)
                    future.result()
                    done.add(node.id)
                    finished += node.steps + len(node.checkpoints)
            except BaseException:
                for future in running:
                    future.cancel()
                raise
            bar.update(finished + sum(_current_step(node, state) for node in running.values()) - bar.n)


def _current_step(node: PlannedNode, state: Path) -> int:
    """Returns the last step that the training of ``node`` has reported."""
    try:
        return int((state / "steps" / node.id).read_text())
    except (OSError, ValueError):
        return 0


def _finish(
    recipe: AnyRecipe, digest: str, nodes: list[PlannedNode], out: Path, state: Path, hidden: Hidden | None, device: str
) -> Manifest:
    """Writes truth, recipe, card and croissant.json, and then the manifest."""
    included = sorted((node for node in nodes if not node.withheld), key=lambda node: node.id)
    truth_nodes = {node.id: _truth_of(node, read_json(state / "done" / node.id)) for node in included}
    truth = Truth(split=recipe.name, version=recipe.version, nodes=truth_nodes)
    if hidden is None:
        commitment, data_digests = None, _publish(recipe, truth, nodes, out)
    else:
        commitment, data_digests = publish(recipe, hidden.secret, truth, out, hidden.labels), {}
    return write_manifest(
        out,
        name=recipe.name,
        version=recipe.version,
        family=recipe.family,
        mothr_version=mothr.benchmark.__version__,
        recipe_sha256=digest,
        commitment=commitment,
        environment={
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu": processor(),
            **gpu(device),
            **data_digests,
        },
    )


def _publish(recipe: AnyRecipe, truth: Truth, nodes: list[PlannedNode], out: Path) -> Mapping[str, str]:
    """Writes all files of an open data set except models and manifest; returns the hashes of the training
    data."""
    write_json(out / TRUTH, truth.model_dump(mode="json"))
    write_text(out / RECIPE, tomli_w.dumps(resolved(recipe)))
    family = family_of(recipe)
    files, models = hashes(out), open_folder(out / MODELS)
    measured, described = shortcuts(models, truth), describe_models(models, truth)
    text = card(recipe, truth, measured, checksum(files), described.sections)
    write_text(out / FIGURE, described.svg)
    write_text(out / "README.md", "\n".join([text, *family.show(out, truth)]))
    write_json(out / CROISSANT, croissant(recipe, out, files, truth))
    return family.data_digests(sorted({task for node in nodes for task in node.tasks}))


def _truth_of(node: PlannedNode, record: dict[str, Any]) -> TruthNode:
    """Returns the truth of ``node``. Its ``record`` holds ``training``, ``transform``, or neither for fresh
    weights."""
    relation, subtype = relation_of(node)
    return TruthNode(
        parents=node.parents,
        relation=relation,
        subtype=subtype,
        tree=node.tree,
        depth=node.depth,
        task="+".join(node.tasks),
        training=record.get("training"),
        transform=record.get("transform"),
        drawn=dict(node.drawn) if node.drawn is not None else None,
        withheld=node.withheld_ancestors or None,
    )
