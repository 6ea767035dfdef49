"""The list of all families of real networks."""

from mothr.generators.data.registry import Registry
from mothr.generators.real.families import mhcnuggets, minilm, pictures, science, stockfish
from mothr.generators.real.family import PREFIX, RealFamily
from mothr.generators.real.online import openmodeldb, trees

FAMILIES: Registry[RealFamily] = Registry(
    "family of real networks",
    [
        mhcnuggets.FAMILY,
        *pictures.FAMILIES,
        *science.FAMILIES,
        minilm.FAMILY,
        stockfish.FAMILY,
        *openmodeldb.FAMILIES,
        *trees.FAMILIES,
    ],
)
"""Every family, by name."""


def find(name: str) -> RealFamily:
    """Returns the family of this name, with or without ``real-``.

    Raises:
        MothrError: there is no such family; similar names are given.
    """
    return FAMILIES.find(name.removeprefix(PREFIX))


def catalogue() -> list[dict[str, str]]:
    """Returns one row per family for ``mothr list families`` and ``mothr fetch --list``."""
    return [
        {
            "name": family.name,
            "tier": family.tier,
            "networks": str(family.networks),
            "edges": str(family.edges) if family.scored else "not known",
            "copies": str(family.copies),
            "MB": f"{family.bytes / 1e6:,.0f}",
            "licence": family.licence,
        }
        for family in FAMILIES.values()
    ]
