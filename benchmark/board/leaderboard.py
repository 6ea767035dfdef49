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

from mothr.benchmark.board.board import FOREST_METRICS, RANKED_BY, TREE_METRICS, Row, board, gaps, latest, rows, table
from mothr.benchmark.board.page import ABOUT, REGIMES, given_of, page_data
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.store import folder_name, read_all
from mothr.benchmark.records.superseded import later_version
from mothr.benchmark.run import plan
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.storage import read_json, sha256_of, write_text

__all__ = ["board", "write_both", "write_markdown", "write_page"]

NAMES = {
    "edge_f1": "Edge F1",
    "edge_accuracy": "Edge accuracy",
    "ancestor_f1": "Ancestor F1",
    "direction_accuracy": "Direction",
    "undirected_f1": "Undirected F1",
    "root_accuracy": "Root",
    "adjusted_rand": "Trees (ARI)",
    "shd": "SHD",
    "brier": "Brier",
    "ece": "ECE",
    "aurc": "AURC",
}
SETTINGS = {"known-trees": "the trees are told", "open": "the trees are not told"}
SCRIPTS = ("page.js.j2", "page.glance.js.j2", "page.forest.js.j2", "page.charts.js.j2")
"""Parts of the page's one script, in their order."""


def write_both(results_folder: Path, out: Path) -> tuple[Path, Path]:
    """Returns the paths of the page, ``out/index.html``, and of its tables in Markdown, ``out/README.md``; records are read once.

    Raises:
        MothrError: as :func:`write_page`.
    """
    every, found = _read(results_folder)
    return _write_page(every, found, results_folder, out), _write_markdown(
        every, found, results_folder, out / "README.md"
    )


def write_page(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/index.html``: the whole board in one file that loads nothing and needs no server.

    Raises:
        MothrError: there are no records, one is faulty, or a truth, what lies between its models, or the regime map cannot be read.
    """
    return _write_page(*_read(results_folder), results_folder, out)


def _write_page(every: Sequence[Row], found: pd.DataFrame, results_folder: Path, out: Path) -> Path:
    data = page_data(every, found, results_folder)
    data |= {
        "names": {name: NAMES.get(name, name.replace("_", " ").capitalize()) for name in [*METRICS, *data["measured"]]},
        "answers": {name: metric.answers for name, metric in METRICS.items()},
        "shown": [TREE_METRICS, FOREST_METRICS],
        "settings": SETTINGS,
        "boards": [_short_board(board, results_folder) for board in _boards(every, found, results_folder)],
    }
    environment = _templates()
    css, js = (_source(environment, *names) for names in (("page.css.j2",), SCRIPTS))
    page = environment.get_template("page.html.j2").render(
        summary=_summary(every),
        css=Markup(css),
        js=Markup(js),
        hashes={"css": _csp_hash(css), "js": _csp_hash(js)},
        data=_inert(data),
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def write_markdown(results_folder: Path, path: Path) -> None:
    """Writes the board as Markdown tables to ``path``, which is ``results/README.md`` in the repository.

    A split's own ``made.md``, if there is one, says under its first table's heading what it took to make; what ``regimes/about.md`` says
    of the regime map comes before the tables.

    Raises:
        MothrError: there are no records, or one is faulty.
    """
    _write_markdown(*_read(results_folder), results_folder, path)


def _write_markdown(every: Sequence[Row], found: pd.DataFrame, results_folder: Path, path: Path) -> Path:
    shown = _shown(every, found, results_folder)
    for one in shown["boards"]:
        one["later"] = later_version(results_folder / one["folder"])
    made = {place.parent.name: place.read_text(encoding="utf-8").strip() for place in results_folder.glob("*/made.md")}
    about = results_folder / REGIMES.with_name(ABOUT)
    regimes = about.read_text(encoding="utf-8").strip() if about.is_file() else ""
    write_text(path, _templates().get_template("board.md.j2").render(shown, made=made, regimes=regimes))
    return path


def _read(results_folder: Path) -> tuple[list[Row], pd.DataFrame]:
    records = read_all(results_folder)
    if not records:
        raise MothrError(
            f"{results_folder}: holds no results; run `mothr run METHOD DATASET --out {results_folder}` first"
        )
    manifests = {}
    for split in sorted({(record.split, record.split_version) for record in records}):
        path = results_folder / folder_name(*split) / "manifest.json"
        if path.is_file():
            manifests[split] = sha256_of(path)
    every = rows(records, manifests)
    return every, table(every, plan.beside(results_folder))


def _shown(every: Sequence[Row], found: pd.DataFrame, results_folder: Path) -> dict[str, Any]:
    """Returns what the Markdown template is given."""
    shared = {"names": NAMES, "settings": SETTINGS, "tree_metrics": TREE_METRICS, "forest_metrics": FOREST_METRICS}
    current = found[found["id"].isin([row.id for row in latest(every, results_folder)])]
    return shared | {
        "boards": _boards(every, found, results_folder),
        "ranked_by": RANKED_BY,
        "glance": _glance(current),
    }


def _glance(found: pd.DataFrame) -> dict[str, Any]:
    """Returns the score of each method on each split where the trees are not told: first who ran on all of them, best first."""
    part = found[found["setting"] == "open"]
    scores = part.pivot_table(index=["label", "kind"], columns="split", values=RANKED_BY)
    whole = scores.notna().all(axis=1)
    order = (
        scores.assign(whole=whole, mean=scores.mean(axis=1))
        .sort_values(["whole", "mean"], ascending=False, kind="stable")
        .index
    )
    lines = [
        {"label": label, "kind": kind, "mean": own.mean() if whole[label, kind] else None, "scores": list(own)}
        for label, kind in order
        for own in [scores.loc[(label, kind)]]
    ]
    return {"splits": list(scores.columns), "lines": lines}


def _boards(every: Sequence[Row], found: pd.DataFrame, results_folder: Path) -> list[dict[str, Any]]:
    """Returns what the templates show: each board with its rows, best first."""
    views = []
    places: dict[tuple[str, int, str], list[int]] = {}
    for position, row in enumerate(every):
        places.setdefault(row.board, []).append(position)
    absent: dict[tuple[str, str], list[str]] = {}
    for gap in gaps(latest(every, results_folder), plan.beside(results_folder)):
        if len(gap.seeds) == gap.of:
            absent.setdefault((gap.split, gap.setting), []).append(gap.label)
    for (split, version, setting), positions in places.items():
        told = [given_of(every[position]) for position in positions]
        own = found.iloc[positions].assign(position=positions, told=told)
        own = own.sort_values(RANKED_BY, ascending=False, kind="stable", na_position="last")
        nulls = own.loc[own["kind"] == "null", RANKED_BY]
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
                "absent": absent.get((folder_name(split, version), setting), []),
            }
        )
    return views


def _short_board(board: Mapping[str, Any], results_folder: Path) -> dict[str, Any]:
    """Returns a board for the page, where rows are named by their place in the table."""
    path = results_folder / board["folder"] / "manifest.json"
    manifest = read_json(path) if path.is_file() else {}
    kept = ("id", "split", "version", "folder", "setting", "trees", "models", "methods", "null", "absent")
    return {
        **{name: board[name] for name in kept},
        "family": str(manifest.get("family") or "unknown") if isinstance(manifest, dict) else "unknown",
        "rows": [row["position"] for row in board["rows"]],
        **(later.model_dump() if (later := later_version(results_folder / board["folder"])) else {}),
    }


def _summary(every: Sequence[Row]) -> dict[str, Any]:
    runs = [run for row in every for run in row.runs]
    return {
        "runs": len(runs),
        "methods": len({run.configuration for run in runs}),
        "boards": len({row.board for row in every}),
        "date": max(run.date for run in runs)[:10],
        "versions": ", ".join(sorted({run.mothr_version for run in runs})),
    }


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, digits=3: (
        "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"
    )
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


def _source(environment: Environment, *names: str) -> str:
    """Returns templates' text as it is: styles and scripts hold no template signs, and their hash must not depend on data."""
    assert environment.loader
    return "".join(environment.loader.get_source(environment, name)[0] for name in names)


def _csp_hash(text: str) -> str:
    """Returns the source expression by which a Content Security Policy allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(value: Any) -> Markup:
    """Returns ``value`` as JSON that no HTML parser can take for markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
