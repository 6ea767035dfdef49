"""Renders the pages: each is one HTML file that holds its style, its script and its data, and loads nothing."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mothr.benchmark import drawing
from mothr.benchmark.board.page_data import IndexData, SplitData, to_json
from mothr.benchmark.board.pages import SplitFiles, index_data, split_data
from mothr.benchmark.board.tracks.picture import words_of
from mothr.benchmark.board.tracks.standings import TrackBoard, without_track
from mothr.benchmark.board.tracks.tables import by_setting, count_text, interval_text, null_text
from mothr.benchmark.board.views import SETTINGS, Leaderboard, given_names
from mothr.benchmark.storage import write_text

STATIC = Path(__file__).parent / "static"
"""The folder of scripts and styles."""
STYLES = ("page.css", "board.css", "forest.css", "charts.css", "tracks.css", "media.css")
SCRIPTS = ("dom.js", "rows.js", "filters.js", "board.js", "charts.js")
"""Scripts of both pages, in their order."""
INDEX_SCRIPTS = ("overview.js", "regimes.js", "index.js")
SPLIT_SCRIPTS = ("facts.js", "forest.js", "details.js", "split.js")


def write(leaderboard: Leaderboard, out: Path, tracks: Sequence[TrackBoard]) -> Path:
    """Returns the path of ``out/index.html``; writes it, and ``out/<split>-v<k>/index.html`` for each split.

    Args:
        leaderboard: all boards.
        out: the folder to write to.
        tracks: the tracks of these boards; none if none are defined.

    Raises:
        MothrError: a truth, a split's ``pairs.json`` or the regime map cannot be read.
    """
    files = {folder: SplitFiles(leaderboard.folder / folder) for folder in leaderboard.splits}
    index = index_data(leaderboard, files)
    for folder, boards in leaderboard.splits.items():
        page = _render("split.html.j2", split_data(boards, files[folder]), SPLIT_SCRIPTS, {"board": boards[0]})
        write_text(out / folder / "index.html", page)
    values = {
        "summary": leaderboard.summary,
        "tracks": by_setting(tracks),
        "no_track": without_track(leaderboard),
        "studies": leaderboard.studies,
    }
    write_text(out / "index.html", _render("index.html.j2", index, INDEX_SCRIPTS, values))
    return out / "index.html"


def _render(template: str, data: IndexData | SplitData, scripts: tuple[str, ...], values: Mapping[str, Any]) -> str:
    css = "".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
    js = "".join((STATIC / name).read_text(encoding="utf-8") for name in (*SCRIPTS, *scripts))
    return (
        _environment()
        .get_template(template)
        .render(
            values,
            css=Markup(css),
            js=Markup(js),
            hashes={"css": _csp_hash(css), "js": _csp_hash(js)},
            data=Markup(to_json(data)),
            end_marks=Markup(drawing.end_marks()),
            legend=[(Markup(sample), label) for sample, label in drawing.legend_entries()],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "settings": SETTINGS,
        "given_names": given_names,
        "words_of": words_of,
        "interval_text": interval_text,
        "count_text": count_text,
        "null_text": null_text,
    }
    return environment


def _csp_hash(text: str) -> str:
    """Returns the source expression by which a Content Security Policy allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
