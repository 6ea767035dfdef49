"""The board made readable: a page that needs no server, and Markdown."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mothr.benchmark.board import FOREST_METRICS, RANKED_BY, TREE_METRICS, Row, board, rows, table
from mothr.benchmark.drawing import Kind, compare, layout
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.metrics import METRICS
from mothr.benchmark.results import Result, folder_name, read_all
from mothr.benchmark.storage import read_json, sha256_of, write_text

__all__ = ["board", "write_markdown", "write_page"]

NAMES = {
    "edge_f1": "Edge F1",
    "edge_accuracy": "Edge accuracy",
    "ancestor_f1": "Ancestor F1",
    "direction_accuracy": "Direction",
    "undirected_f1": "Undirected F1",
    "root_accuracy": "Root",
    "adjusted_rand": "Trees (ARI)",
}
SIGNS: dict[Kind, str] = {"right": "r", "reversed": "v", "missed": "m"}
TOLD = {"metadata": "metadata", "tree_count": "number of trees", "trees": "trees", "truth": "truth"}
SETTINGS = {"known-trees": "the trees are told", "open": "the trees are not told"}



def write_page(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/index.html``: the whole board in one file that loads nothing and needs no server.

    Raises:
        MothrError: there are no records, one is faulty, or a truth cannot be read.
    """
    every, found = _read(results_folder)
    truths = {}
    for row in every:
        name = folder_name(*row.board[:2])
        if name not in truths:
            truths[name] = _truth(results_folder / name / "truth.json")
    details = [_details(row, truths[folder_name(*row.board[:2])]) for row in every]
    packages = list(dict.fromkeys(one["packages"] for one in details))
    for one in details:  # the same for most rows, and long
        one["packages"] = packages.index(one["packages"])
    data = {
        "metrics": {name: NAMES[name] for name in TREE_METRICS},
        "packages": packages,
        "columns": list(found.columns),
        "table": json.loads(found.to_json(orient="values", double_precision=4)),
        "details": details,
        "forests": {name: _forest(*truth) for name, truth in truths.items() if truth},
    }
    environment = _templates()
    loaded = {kind: _source(environment, f"page.{kind}.j2") for kind in ("css", "js")}
    page = environment.get_template("page.html.j2").render(
        _shown(every, found),
        answers={name: METRICS[name].answers for name in NAMES},
        summary=_summary(every),
        css=Markup(loaded["css"]),
        js=Markup(loaded["js"]),
        hashes={kind: _csp_hash(content) for kind, content in loaded.items()},
        data=_inert(data),
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def write_markdown(results_folder: Path, path: Path) -> None:
    """Writes the board as Markdown tables to ``path``, which is ``results/README.md`` in the repository.

    A split's own ``made.md``, if there is one, says under its first table's heading what it took to make.

    Raises:
        MothrError: there are no records, or one is faulty.
    """
    shown = _shown(*_read(results_folder))
    made = {place.parent.name: place.read_text(encoding="utf-8").strip() for place in results_folder.glob("*/made.md")}
    write_text(path, _templates().get_template("board.md.j2").render(shown, made=made))


def _read(results_folder: Path) -> tuple[list[Row], pd.DataFrame]:
    records = read_all(results_folder)
    if not records:
        raise MothrError(f"{results_folder}: holds no results; run `mothr run METHOD DATASET --out {results_folder}` first")
    manifests = {}
    for split in sorted({(record.split, record.split_version) for record in records}):
        path = results_folder / folder_name(*split) / "manifest.json"
        if path.is_file():
            manifests[split] = sha256_of(path)
    every = rows(records, manifests)
    return every, table(every)


def _shown(every: Sequence[Row], found: pd.DataFrame) -> dict[str, Any]:
    """Returns what both templates are given."""
    shared = {"names": NAMES, "settings": SETTINGS, "tree_metrics": TREE_METRICS, "forest_metrics": FOREST_METRICS}
    return shared | {"boards": _boards(every, found)}


def _boards(every: Sequence[Row], found: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns what the templates show: each board with its rows, best first."""
    views = []
    places: dict[tuple[str, int, str], list[int]] = {}
    for position, row in enumerate(every):
        places.setdefault(row.board, []).append(position)
    methods = found[found["kind"] == "method"]
    for (split, version, setting), positions in places.items():
        told = [_told(every[position]) for position in positions]
        own = found.iloc[positions].assign(position=positions, told=told)
        own = own.sort_values(RANKED_BY, ascending=False, kind="stable", na_position="last")
        nulls = own.loc[own["kind"] == "null", RANKED_BY]
        elsewhere = methods.loc[methods["setting"] == setting, "label"]
        first = next((run for position in positions if (run := every[position].drawn())), None)
        views.append(
            {
                "id": f"{folder_name(split, version)}-{setting}",
                "split": split,
                "version": version,
                "folder": folder_name(split, version),
                "setting": setting,
                "rows": own.to_dict(orient="records"),
                "trees": int(own["trees"].max()),
                "models": len(first.parents or ()) if first else 0,
                "methods": int((own["kind"] == "method").sum()),
                "null": None if nulls.isna().all() else float(nulls.max()),
                "absent": sorted(set(elsewhere) - set(own["label"])),
            }
        )
    return views


def _summary(every: Sequence[Row]) -> dict[str, Any]:
    runs = [run for row in every for run in row.runs]
    return {
        "runs": len(runs),
        "methods": len({(run.method, run.method_version, json.dumps(run.parameters, sort_keys=True)) for run in runs}),
        "boards": len({row.board for row in every}),
        "date": max(run.date for run in runs)[:10],
        "versions": ", ".join(sorted({run.mothr_version for run in runs})),
    }


def _truth(path: Path) -> tuple[ModelGraph, dict[str, Any]] | None:
    """Returns the true graph and the entries of its nodes; None for a hidden split, whose truth is not there."""
    if not path.exists():
        return None
    value = read_json(path)
    nodes = value.get("nodes") if isinstance(value, dict) else None
    if not isinstance(nodes, dict) or not all(isinstance(entry, dict) and "parents" in entry for entry in nodes.values()):
        raise MothrError(f"{path}: a truth is an object whose 'nodes' each have 'parents'; copy it from the data set again")
    return ModelGraph.from_json({node: entry["parents"] for node, entry in nodes.items()}, str(path)), nodes


def _forest(truth: ModelGraph, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where the page draws each node; nodes are numbered in sorted order, trees as in ``truth.trees``."""
    place = {node: position for position, node in enumerate(truth.nodes)}
    tree_of = {node: position for position, tree in enumerate(truth.trees) for node in tree}
    spots = {node: spot for tree in truth.trees for node, spot in layout(truth.subgraph(tree)).items()}
    known = [[entries[node].get(key) for key in ("relation", "task")] for node in truth.nodes]
    return {
        "ids": truth.nodes,
        "notes": [", ".join(str(note) for note in notes if note is not None) for notes in known],
        "tree": [tree_of[node] for node in truth.nodes],
        "x": [spots[node][0] for node in truth.nodes],
        "depth": [spots[node][1] for node in truth.nodes],
        "edges": [place[node] for edge in truth.edges for node in edge],
    }


def _details(row: Row, truth: tuple[ModelGraph, Any] | None) -> dict[str, Any]:
    """Returns what the page shows when a row is opened."""
    shown = row.drawn() or row.runs[0]
    facts = {
        "Told": _told(row),
        "Method version": shown.method_version,
        "Parameters": ", ".join(f"{key} = {json.dumps(value)}" for key, value in shown.parameters.items()) or "none",
        "Tuned on": ", ".join(sorted({split for run in row.runs for split in run.tuned_on})) or "nothing",
        "Verified": "by the maintainers" if all(run.verified for run in row.runs) else "not yet",
        "Device": ", ".join(sorted({run.device for run in row.runs})),
        "Peak memory": _bytes(max((run.peak_bytes for run in row.runs if run.peak_bytes is not None), default=None)),
        "Code": " ".join(filter(None, [f"mothr {shown.mothr_version}", (shown.commit or "")[:10], "(edited)" if shown.dirty else ""])),
        "Date": max(run.date for run in row.runs)[:10],
        "Build": f"manifest {shown.manifest_sha256[:12]}",
    }
    details: dict[str, Any] = {
        "facts": facts,
        "packages": ", ".join(f"{name} {number}" for name, number in sorted(shown.packages.items())),
        "runs": [[run.seed, run.status, run.seconds, run.error] for run in row.runs],
        "scores": json.loads(row.scores.to_json(orient="split", double_precision=3)),
    }
    if truth and shown.status == "ok":
        details["forest"] = _overlay(truth[0], shown)
    return details


def _overlay(truth: ModelGraph, run: Result) -> dict[str, Any]:
    """Returns a run's forest against the truth: a letter per true edge, and the wrong edges and predicted roots by number."""
    predicted = run.prediction().graph
    place = {node: position for position, node in enumerate(truth.nodes)}
    drawn = compare(truth, predicted)
    return {
        "seed": run.seed,
        "edges": "".join(SIGNS[edge.kind] for edge in drawn if edge.kind != "wrong"),
        "wrong": [place.get(node, -1) for edge in drawn if edge.kind == "wrong" for node in (edge.parent, edge.child)],
        "roots": [place[node] for node in predicted.roots if node in place],
        "abstained": [place[node] for node in run.abstained or () if node in place],
    }


def _told(row: Row) -> str:
    return ", ".join(TOLD[name] for name in row.told) or "nothing"


def _bytes(count: int | None) -> str:
    return "not measured" if count is None else f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, digits=3: "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"
    environment.filters["interval"] = _interval
    environment.filters["seconds"] = _seconds
    environment.filters["markdown"] = _markdown
    return environment


def _interval(row: Mapping[str, Any], name: str) -> list[str]:
    """Returns the interval of a metric in a row of the table, and over how many trees it is where it is not over all."""
    ends = [] if np.isnan(row[f"{name}_low"]) else [f"{row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}"]
    return ends if row[f"{name}_n"] == row["trees"] else [*ends, f"n = {row[f'{name}_n']}"]


def _seconds(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:,.1f}" if value >= 0.05 else "< 0.1"


def _markdown(text: str) -> str:
    """Returns ``text`` with everything escaped that Markdown or HTML would take for a sign."""
    for sign in "\\`*_{}[]<>()#+!|~":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _source(environment: Environment, name: str) -> str:
    """Returns a template's text as it is: styles and scripts hold no template signs, and their hash must not depend on data."""
    assert environment.loader
    return environment.loader.get_source(environment, name)[0]


def _csp_hash(text: str) -> str:
    """Returns the source expression by which a Content Security Policy allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(value: Any) -> Markup:
    """Returns ``value`` as JSON that no HTML parser can take for markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
