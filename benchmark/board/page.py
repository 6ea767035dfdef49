"""What the page holds: the board, the forests and each row's details, as short as plain JSON can be.

Numbers stand in arrays, a column at a time; texts and answers that repeat are written once and named by their place; a forest is a list
of places. The scripts of the page draw everything from this.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mothr.benchmark.board.board import TREE_METRICS, Row
from mothr.benchmark.board.drawing import layout
from mothr.benchmark.board.pairs import SplitPairs
from mothr.benchmark.board.pairs import read as read_pairs
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Relation
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import folder_name
from mothr.benchmark.storage import read_json

REGIMES = Path("regimes", "map.csv")
"""Where the regime map lies in a folder of results: ``mothr map DATA ... --out results/regimes`` writes it."""
ABOUT = "about.md"
"""Beside it: what it is of and what it says, a paragraph of plain text."""
CELLS = ("grouping", "regime", "direction", "accuracy", "low", "high", "trees", "edges")
"""Columns of a regime map that are shown."""
LETTERS: Mapping[Relation, str] = {"finetune": "f", "adapter": "a", "merge": "m", "quantized": "q"}
"""How the page writes what a method said of a model's origin."""
GIVEN = {"metadata": "metadata", "tree_count": "number of trees", "trees": "trees", "truth": "truth"}
Parents = Mapping[NodeId, tuple[NodeId, ...]]
Truth = tuple[ModelGraph, dict[str, Any]]
"""The true graph, and the entries of its nodes."""


def page_data(every: Sequence[Row], found: pd.DataFrame, results_folder: Path) -> dict[str, Any]:
    """Returns what is known of ``every`` row, of the same order as the tidy table ``found``, and of the true forests.

    ``table`` is the tidy table; ``facts`` are texts for each row, ``runs`` its ``[seed, seconds]``, with status and reason where
    there is no answer; ``scores`` a list for each metric with thousandths for each tree; ``whole`` the same of what is
    measured over the whole forest, a mean over seeds; ``forest`` see :func:`_overlay`; ``pairs`` see :func:`_pairs`.

    Raises:
        MothrError: a truth, what lies between its models, or a regime map cannot be read.
    """
    folders = [folder_name(*row.board[:2]) for row in every]
    truths = {name: truth for name in dict.fromkeys(folders) if (truth := _truth(results_folder / name / "truth.json"))}
    pairs = {name: read_pairs(results_folder / name, truth) for name, (truth, _) in truths.items()}
    facts = pd.DataFrame([_facts(row) for row in every])
    measured = list(dict.fromkeys(name for row in every for run in row.runs for name in run.metrics))
    return {
        "table": {str(name): _packed(column) for name, column in found.items()},
        "facts": {str(name): _packed(column) for name, column in facts.items()},
        "runs": [[_run(run) for run in row.runs] for row in every],
        "scored": {name: [int(tree) for tree in row.scores.index] for name, row in zip(folders, every, strict=True)},
        "scores": _once(
            [[[_thousandths(value) for value in row.scores[name]] for name in TREE_METRICS] for row in every]
        ),
        "measured": measured,
        "whole": _once([[_mean([run.metrics.get(name) for run in row.runs]) for name in measured] for row in every]),
        "forest": _once(
            [
                _overlay(truths[name][0], row) if name in truths else None
                for name, row in zip(folders, every, strict=True)
            ]
        ),
        "forests": {name: _forest(*truth) for name, truth in truths.items()},
        "pairs": {name: _pairs(one) for name, one in pairs.items() if one},
        "relations": {letter: relation for relation, letter in LETTERS.items()},
        "map": _regimes(results_folder / REGIMES),
    }


def given_of(row: Row) -> str:
    """Returns in words what the method of ``row`` was told."""
    return ", ".join(GIVEN[name] for name in row.given) or "nothing"


def _packed(column: "pd.Series[Any]") -> Any:
    """Returns a column as a list of numbers, or of texts as :func:`_once` writes them."""
    return [_short(value, 4) for value in column] if pd.api.types.is_numeric_dtype(column) else _once(list(column))


def _once(values: list[Any]) -> Any:
    """Returns ``values``; if some are the same, each is written once, in ``words``, and ``at`` says the place there of each value."""
    keys = [json.dumps(value) for value in values]
    words = dict(zip(keys, values, strict=True))
    place = {key: position for position, key in enumerate(words)}
    return {"words": list(words.values()), "at": [place[key] for key in keys]} if len(words) < len(values) else values


def _short(value: Any, digits: int) -> float | int | None:
    """Returns a number with so many decimals, whole ones without any; None for none."""
    if value is None or not np.isfinite(value):
        return None
    rounded = round(float(value), digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _thousandths(value: Any) -> int | None:
    return None if value is None or not np.isfinite(value) else round(1000 * float(value))


def _mean(values: Sequence[float | None]) -> int | None:
    known = [value for value in values if value is not None]
    return _thousandths(sum(known) / len(known)) if known else None


def _run(run: RunRecord) -> list[Any]:
    seconds = _short(run.seconds, 2)
    return [run.seed, seconds] if run.status == "ok" else [run.seed, seconds, run.status, run.error]


def _facts(row: Row) -> dict[str, str]:
    """Returns what the page says of a row in words."""
    shown = row.drawn() or row.runs[0]
    kept = {run.isolation for run in row.runs}
    return {
        "Told": given_of(row),
        "Method version": shown.method_version,
        "Tuned on": ", ".join(sorted({split for run in row.runs for split in run.tuned_on})) or "nothing",
        "Kept apart": ", ".join(sorted(str(name) for name in kept if name)) if kept - {None} else "",
        "Device": ", ".join(sorted({run.device for run in row.runs})),
        "Peak memory": _bytes(max((run.peak_bytes for run in row.runs if run.peak_bytes is not None), default=None)),
        "Code": " ".join(
            filter(None, [f"mothr {shown.mothr_version}", (shown.commit or "")[:10], "(edited)" if shown.dirty else ""])
        ),
        "Date": max(run.date for run in row.runs)[:10],
        "Build": f"manifest {shown.manifest_sha256[:12]}",
        "Packages": ", ".join(f"{name} {number}" for name, number in sorted(shown.packages.items())),
    }


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _truth(path: Path) -> Truth | None:
    """Returns the true graph and the entries of its nodes; None for a hidden split, whose truth is not there."""
    if not path.exists():
        return None
    value = read_json(path)
    nodes = value.get("nodes") if isinstance(value, dict) else None
    if not isinstance(nodes, dict) or not all(
        isinstance(entry, dict) and "parents" in entry for entry in nodes.values()
    ):
        raise MothrError(
            f"{path}: a truth is an object whose 'nodes' each have 'parents'; copy it from the data set again"
        )
    return ModelGraph.from_json({node: entry["parents"] for node, entry in nodes.items()}, str(path)), nodes


def _forest(truth: ModelGraph, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where the page draws each node; nodes are numbered in sorted order, trees as in ``truth.trees``."""
    tree_of = {node: position for position, tree in enumerate(truth.trees) for node in tree}
    spots = {node: spot for tree in truth.trees for node, spot in layout(truth.subgraph(tree)).items()}
    known = [[entries[node].get(key) for key in ("relation", "task")] for node in truth.nodes]
    return {
        "ids": truth.nodes,
        "notes": _packed(pd.Series([", ".join(str(note) for note in notes if note is not None) for notes in known])),
        "tree": [tree_of[node] for node in truth.nodes],
        "x": [_short(spots[node][0], 3) for node in truth.nodes],
        "depth": [spots[node][1] for node in truth.nodes],
        "parents": _differing(truth.parents, dict.fromkeys(truth.nodes, ())),
    }


def _pairs(found: SplitPairs) -> dict[str, Any]:
    """Returns what lies between the models of each tree, pairs in the order of its file; evidence in ten-thousandths."""
    return {
        "distance": found.distance,
        "direction": found.direction,
        "layers": found.layers,
        "far": [tree.distances for tree in found.trees],
        "says": [[None if value is None else round(10000 * value) for value in tree.evidence] for tree in found.trees],
    }


def _differing(parents: Parents, base: Parents) -> list[int]:
    """Returns the parents, by number, of each node that has others in ``base``, after how many nodes further on it stands, negated.

    A parent that is no node of ``base`` has the number after the last.
    """
    place = {node: position for position, node in enumerate(base)}
    found, last = [], -1
    for child, position in place.items():
        if parents[child] != base[child]:
            found += [last - position, *(place.get(parent, len(place)) for parent in parents[child])]
            last = position
    return found


def _overlay(truth: ModelGraph, row: Row) -> list[Any] | None:
    """Returns the answer that is drawn: seed, where its parents are not the true ones, and what else it says, empty ends left out.

    These are the models it abstained on by number; confidences in thousandths, in the order of the predicted edges; and a letter
    of :data:`LETTERS` or a blank for each model. None where there is no answer for these very models.
    """
    run = row.drawn()
    if run is None or run.parents is None or not all(node in run.parents for node in truth.nodes):
        return None
    predicted = {node: tuple(sorted(run.parents[node])) for node in truth.nodes}
    place = {node: position for position, node in enumerate(truth.nodes)}
    sure, said = run.confidence, run.relations
    found: list[Any] = [
        run.seed,
        _differing(predicted, truth.parents),
        sorted(place[node] for node in run.abstained or () if node in place),
        [_thousandths(sure.get(node, {}).get(parent)) for node in truth.nodes for parent in predicted[node]]
        if sure
        else [],
        "".join(LETTERS[said[node]] if node in said else " " for node in truth.nodes) if said else "",
    ]
    while len(found) > 2 and not found[-1]:
        found.pop()
    return found


def _regimes(path: Path) -> dict[str, Any] | None:
    """Returns the regime map: scores, groupings of regimes with a list of cells, one a score, and what it says; None without a file."""
    if not path.is_file():
        return None
    try:
        cells = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in ("accuracy", "low", "high")})
    except (OSError, ValueError) as error:
        raise MothrError(f"{path}: not a table ({error}); write it with `mothr map`") from None
    missing = [name for name in CELLS if name not in cells]
    if missing:
        raise MothrError(f"{path}: lacks the column {missing[0]!r}; write it with `mothr map`")
    scores = list(dict.fromkeys(map(str, cells.direction)))
    groups: dict[str, dict[str, list[Any]]] = {}
    for cell in cells.to_dict(orient="records"):
        row = groups.setdefault(str(cell["grouping"]), {}).setdefault(str(cell["regime"]), [None] * len(scores))
        numbers = [_thousandths(cell[name]) for name in ("accuracy", "low", "high")]
        row[scores.index(str(cell["direction"]))] = [*numbers, int(cell["trees"]), int(cell["edges"])]
    about = path.with_name(ABOUT)
    return {
        "scores": scores,
        "groups": groups,
        "about": about.read_text(encoding="utf-8").strip() if about.is_file() else "",
    }
