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
    edges = [(parent, network) for network in content.networks for parent in network.parents]
    lines = [
        f"# {family.split} v1",
        "",
        f"{family.description}",
        "",
        f"{len(content.networks)} networks and {len(edges)} edges. {_copies(family)}"
        "This is a test split: no method and no parameter is chosen on it.",
        "",
        "## Licence",
        "",
        f"{family.licence} The weights are not part of mothr. They are downloaded by the person who uses them, "
        "and they are never published with results.",
        "",
        "## Sources",
        "",
        "| file | registry | bytes | SHA-256 |",
        "|---|---|---:|---|",
        *(
            f"| {archive.file} | {CLIENTS[archive.client]} | {archive.bytes:,} | `{archive.sha256}` |"
            for archive in family.archives
        ),
        "",
        "## Evidence",
        "",
    ]
    if not family.scored:
        lines += [
            "No document states a parent of any network, so this data set has no truth. Methods can predict on it.",
            "",
        ]
    counts = Counter(network.evidence for network in content.networks if network.parents)
    if counts:
        lines += ["| document | edges |", "|---|---:|", *(f"| {text} | {n} |" for text, n in counts.most_common()), ""]
    roots = Counter(network.evidence for network in content.networks if not network.parents)
    if family.scored and roots:
        lines += ["Networks without a parent in this data set:", ""]
        lines += ["| why | networks |", "|---|---:|", *(f"| {text} | {n} |" for text, n in roots.most_common()), ""]
    lines += ["## Left out", ""]
    if content.left_out:
        lines += ["| what | why |", "|---|---|", *(f"| {item.what} | {item.reason} |" for item in content.left_out), ""]
    else:
        lines += ["Nothing.", ""]
    sizes = Counter(formats.values())
    lines += [
        "## Networks",
        "",
        "| size | networks |",
        "|---|---:|",
        *(f"| {size} | {n} |" for size, n in sizes.most_common()),
    ]
    lines += [
        "",
        "Values are those of the source; integers and 16-bit values may be stored as float32, which keeps them exactly.",
        "",
    ]
    return "\n".join(lines)


def _copies(family: RealFamily) -> str:
    if not family.copies:
        return ""
    return f"{family.copies} of the edges lead to an exact copy; no method can tell their direction. "
