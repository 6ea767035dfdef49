"""The question 9-root, answered from published records: they hold the predictions, so that no weights are needed.

The initialisation of a root, and what weight decay left of it, stand in the truth. The kurtosis of a root is measured on
weights. It is the same for all splits that share the root, so it is kept in a small table by the root's training seed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.studies.claims.recovery import edge_accuracy
from mothr.baselines.studies.claims.roots import UNRECORDED
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.measurements import Measurement
from mothr.baselines.studies.roots import (
    INITIAL_SHARE_LIMITS,
    KURTOSIS_LIMITS,
    initial_share,
    initialisation,
    interval_name,
    is_original_root,
    kind_of_node,
)
from mothr.benchmark.data.dataset import MANIFEST, TRUTH, Truth, read_manifest, read_truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import NodeId
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import RUNS, read_runs
from mothr.benchmark.records.superseded import later_version

DIRECTIONS = ("kurtosis", "abs_kurtosis", "norm", "residual_independence")
"""Direction scores with which published runs of ``mother-v2`` are shown."""
FULL, LORA, OTHER = "fully fine-tuned", "LoRA", "other kinds"
"""Panels: what all edges of a tree are."""


class RootRow(BaseModel):
    """One line of the table of roots."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    root: str
    """Seed of the root's training, which names the root in all splits that share it."""
    family: str
    """Family of the model."""
    init: str
    """Distribution of its initial weights."""
    kurtosis: float
    """See :func:`mothr.baselines.studies.roots.root_kurtosis`."""


def measured_roots(opened: Sequence[OpenedDataset]) -> list[RootRow]:
    """Returns a row for each root of the data sets that has a training seed and a kurtosis."""
    rows = []
    for data in opened:
        for tree, fields in zip(data.graph.trees, data.root_fields, strict=True):
            name = _root_name(data.truth, tree)
            if name is not None and fields["root_kurtosis"] is not None:
                init, kurtosis = fields["init"] or UNRECORDED, fields["root_kurtosis"]
                rows.append(RootRow(root=name, family=data.family, init=init, kurtosis=kurtosis))
    return rows


def read_roots(path: Path) -> list[RootRow]:
    """Returns the rows of a table of roots.

    Raises:
        MothrError: The file cannot be read, or a line lacks a value.
    """
    try:
        lines = pd.read_csv(path, dtype=str).to_dict("records")
    except (OSError, ValueError) as error:
        raise MothrError(
            f"{path}: cannot be read as a table of roots ({error}); name the roots.csv of an earlier run"
        ) from None
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(RootRow.model_validate(line))
        except ValidationError as error:
            raise MothrError(f"{path}, line {number}: {next(faults(error, RootRow))}") from None
    return rows


def measurements_of_records(results: Path, roots: Sequence[RootRow]) -> pd.DataFrame:
    """Returns the edge accuracy of published runs on each tree, by the root; a row for each :class:`Measurement`.

    The runs are those in the setting known-trees of the newest version of each split: MoTHer as published, MoTHer with other
    direction scores or with a coin, and Linea. On trees of LoRA models, MoTHer as published is ``mother-lora``.

    Args:
        results: Folder of results.
        roots: The roots whose kurtosis is known.

    Raises:
        MothrError: A file of the results is faulty, or there is no record of such a run.
    """
    kurtosis = {row.root: row.kurtosis for row in roots}
    places = [path.parent for path in sorted(results.glob(f"*/{RUNS}")) if (path.parent / TRUTH).is_file()]
    rows = [row for place in places if later_version(place) is None for row in _of_split(place, kurtosis)]
    if not rows:
        raise MothrError(
            f"{results}: holds no run of mother-v2, mother-lora or linea in the setting known-trees beside its truth; "
            "name a folder that 'mothr run' wrote to"
        )
    return pd.DataFrame(rows, columns=Measurement._fields)


def _of_split(place: Path, kurtosis: Mapping[str, float]) -> Iterator[Measurement]:
    truth, family = read_truth(place / TRUTH), read_manifest(place / MANIFEST).family
    records = [record for record in read_runs(place) if record.setting == "known-trees"]
    for number, tree in enumerate(truth.graph.tree_graphs):
        if not tree.edges:
            continue
        kinds = {kind_of_node(truth.nodes[child]) for _, child in tree.edges}
        panel = FULL if kinds == {"full"} else LORA if kinds == {"lora"} else OTHER
        root = _root_name(truth, tree.nodes)
        origin = root or f"{truth.split}, tree {number}"
        for record in records:
            series = _series(record, panel)
            if series is None:
                continue
            accuracy = edge_accuracy(record, tree.edges)
            for measure, group in _groups(truth, tree.nodes, kurtosis.get(root or "")).items():
                shown = (measure, panel, series, group, family, truth.split, number, origin)
                yield Measurement(*shown, accuracy, len(tree.edges))


def _root_name(truth: Truth, tree: Iterable[NodeId]) -> str | None:
    """Returns the training seed of the root of a tree; None if there are several roots, or none that is recorded."""
    roots = [truth.nodes[node] for node in tree if is_original_root(truth.nodes[node])]
    seed = (roots[0].training or {}).get("seed") if len(roots) == 1 else None
    return None if seed is None else str(seed)


def _groups(truth: Truth, tree: Iterable[NodeId], kurtosis: float | None) -> dict[str, str]:
    """Returns measure -> the group of a tree."""
    nodes = [truth.nodes[node] for node in tree]
    groups = {"accuracy_by_init": initialisation(nodes) or UNRECORDED}
    shares = [initial_share(node.training or {}) for node in nodes if is_original_root(node)]
    if len(shares) == 1 and shares[0] is not None:
        groups["accuracy_by_share_left"] = interval_name(shares[0], INITIAL_SHARE_LIMITS)
    if kurtosis is not None:
        groups["accuracy_by_root"] = interval_name(kurtosis, KURTOSIS_LIMITS)
    return groups


def _series(record: RunRecord, panel: str) -> str | None:
    """Returns the name of the curve that a record belongs to; None if it is not shown."""
    if record.method == "linea":
        return "linea"
    if panel == LORA:
        return "kurtosis" if record.method == "mother-lora" else None
    if record.method == "null-mother-random-direction":
        return "random"
    direction = record.parameters.get("direction")
    fixed = {name: value for name, value in asdict(MOTHER_V2).items() if name != "direction"}
    as_published = all(record.parameters.get(name, value) == value for name, value in fixed.items())
    return str(direction) if record.method == "mother-v2" and as_published and direction in DIRECTIONS else None
