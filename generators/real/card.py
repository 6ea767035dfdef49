"""Writes the card of a family of real networks: source, licence, evidence, and what was left out."""

from collections import Counter
from collections.abc import Mapping

from mothr.generators.real.family import Content, RealFamily

CLIENTS = {"pip": "PyPI", "npm": "npm", "apt": "Debian", "url": "its own address"}
"""Client -> what its registry is called."""


def card(family: RealFamily, content: Content, formats: Mapping[str, str]) -> str:
    """Returns the README.md of a fetched family.

    Args:
        family: The family.
        content: Its networks and what was left out.
        formats: Name of a network -> its size as text.
    """
    edges = sum(len(network.parents) for network in content.networks)
    sizes = Counter(formats.values())
    lines = [
        f"# {family.split} v1",
        "",
        f"{family.description}",
        "",
        f"{len(content.networks)} networks and {edges} edges. {_copies(family)}"
        "This is a test split: no method and no parameter is chosen on it.",
        "",
        "## Licence",
        "",
        f"{family.licence} The weights are not part of mothr. They are downloaded by the person who uses them, "
        "and they are never published with results.",
        "",
        *_sources(family, content),
        *_evidence(family, content),
        "## Left out",
        "",
    ]
    if content.left_out:
        lines += ["| what | why |", "|---|---|", *(f"| {item.what} | {item.reason} |" for item in content.left_out), ""]
    else:
        lines += ["Nothing.", ""]
    if sizes:
        lines += ["## Networks", "", "| size | networks |", "|---|---:|"]
        lines += [*(f"| {size} | {number} |" for size, number in sizes.most_common()), ""]
        lines += [
            "Values are those of the source; integers and 16-bit values may be stored as float32, which keeps them exactly.",
            "",
        ]
    return "\n".join(lines)


def _sources(family: RealFamily, content: Content) -> list[str]:
    """Returns the table of the files, or of the repositories on the Hub."""
    if family.archives:
        rows = [
            f"| {archive.file} | {CLIENTS[archive.client]} | {archive.bytes:,} | `{archive.sha256}` |"
            for archive in family.archives
        ]
        return ["## Sources", "", "| file | registry | bytes | SHA-256 |", "|---|---|---:|---|", *rows, ""]
    rows = [f"| {name} | `{revision}` |" for name, revision in content.versions.items()]
    return ["## Sources", "", "| repository on the Hub | revision |", "|---|---|", *rows, ""]


def _evidence(family: RealFamily, content: Content) -> list[str]:
    """Returns the tables of the documents that name parents, and of the reasons why networks have none."""
    lines = ["## Evidence", ""]
    if not family.scored:
        return [
            *lines,
            "No document states a parent of any network, so this data set has no truth. Methods can predict on it.",
            "",
        ]
    for title, first, networks in (
        ("", "document | edges", [network for network in content.networks if network.parents]),
        (
            "Networks without a parent in this data set:",
            "why | networks",
            [n for n in content.networks if not n.parents],
        ),
    ):
        counts = Counter(network.evidence for network in networks)
        if counts:
            lines += [title, ""] if title else []
            lines += [
                f"| {first} |",
                "|---|---:|",
                *(f"| {text} | {number} |" for text, number in counts.most_common()),
                "",
            ]
    return lines


def _copies(family: RealFamily) -> str:
    if not family.copies:
        return ""
    return f"{family.copies} of the edges lead from a root to an exact copy of it; no method can tell their direction. "
