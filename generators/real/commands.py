"""The command ``mothr fetch``: lists, estimates, downloads and converts real networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mothr.benchmark.cli.command import Command, Json, say, table
from mothr.benchmark.errors import MothrError

if TYPE_CHECKING:
    from mothr.generators.real.family import RealFamily


def fetch(
    family: Annotated[str | None, typer.Argument(help="A name from 'mothr fetch --list'.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the data set: new or empty.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List all families: size, edges, licence.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be downloaded, and what would be skipped and why.")
    ] = False,
    archives: Annotated[
        Path | None, typer.Option(help="A folder with packages or files that were downloaded elsewhere.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="For OpenModelDB: the address of a server that has the files under their SHA-256."),
    ] = None,
    revisions: Annotated[
        Path | None, typer.Option(help="For the Hub: the revisions.json of a data set that was fetched before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download real networks whose lineage is documented, check their hashes, and write them as a data set.

    Example: mothr fetch mhcnuggets --out data/mhcnuggets
    """
    from mothr.generators.real.catalogue import FAMILIES, catalogue, find

    if show_list:
        say([_facts(known) for known in FAMILIES.values()], as_json, lambda: table(catalogue()))
        return
    if family is None:
        raise MothrError("mothr fetch: name a family; 'mothr fetch --list' shows all of them")
    chosen = find(family)
    if dry_run:
        say(_facts(chosen), as_json, lambda: _dry_run(chosen))
        return
    if out is None:
        raise MothrError(f"mothr fetch {family}: give a new folder by --out")
    if archives is not None and not archives.is_dir():
        raise MothrError(f"{archives}: no such folder; --archives names one with downloaded packages")
    from mothr.generators.real.build import fetch as make
    from mothr.generators.real.family import Options

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    manifest = make(chosen, out, Options(archives, mirror=mirror, revisions=revisions, progress=progress))
    value = {"out": str(out), "name": manifest.name, "version": manifest.version, "models": len(manifest.models)}
    text = (
        f"{out}: {manifest.name} v{manifest.version}, {len(manifest.models)} networks; its card is {out / 'README.md'}"
    )
    say(value, as_json, text)


def _facts(family: "RealFamily") -> dict[str, object]:
    """Returns what is known about a family before anything is downloaded."""
    return {
        "name": family.name,
        "split": family.split,
        "tier": family.tier,
        "networks": family.networks,
        "edges": family.edges,
        "copies": family.copies,
        "scored": family.scored,
        "bytes": family.bytes,
        "licence": family.licence,
        "libraries": list(family.libraries),
        "missing_libraries": family.missing_libraries(),
        "downloads": [
            {"file": archive.file, "client": archive.client, "bytes": archive.bytes, "sha256": archive.sha256}
            for archive in family.archives
        ],
        "skipped": list(family.notes),
    }


def _dry_run(family: "RealFamily") -> str:
    """Returns the text of a dry run."""
    rows = [
        {"file": archive.file, "client": archive.client, "MB": f"{archive.bytes / 1e6:.1f}"}
        for archive in family.archives
    ]
    shown = rows[:40] + ([{"file": f"and {len(rows) - 40} more", "client": "", "MB": ""}] if len(rows) > 40 else [])
    edges = f"{family.edges} documented edges" + (
        f", {family.copies} of them to exact copies of a root" if family.copies else ""
    )
    lines = [
        f"{family.split}: {family.networks} networks, {edges if family.scored else 'no truth'}",
        f"licence: {family.licence}",
        f"downloads: {family.bytes / 1e6:.1f} MB in {len(family.archives)} files",
        table(shown),
    ]
    lines += [f"skipped: {note}" for note in family.notes]
    lines += [
        f'needs the library {library}, which is not installed: pip install "mothr[fetch]"'
        for library in family.missing_libraries()
    ]
    return "\n".join(lines)


commands = (Command("Data", fetch),)
"""What :mod:`mothr.generators.commands` adds to ``mothr``."""
