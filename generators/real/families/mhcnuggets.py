"""mhcnuggets: 299 LSTMs that predict which peptides an MHC allele binds; the largest documented real family."""

import csv
import io
from collections.abc import Mapping

from mothr.generators.real.archives import Opened, wheel
from mothr.generators.real.family import Content, LeftOut, Network, RealFamily
from mothr.generators.real.readers.h5 import read_keras

WHEEL = wheel(
    "mhcnuggets", "2.4.1", "ea1c54d020eef8bad3243dfa01af59fe30a789b0faa01ae66eb1f9ff9705cd36", 108791221
)  # fmt: skip
SAVES, DATA = "mhcnuggets/saves/production/", "mhcnuggets/data/production/"
ROOTS = {"mhcI": "HLA-A02:01_BA", "mhcII": "HLA-DRB101:01_BA"}
"""Class of alleles -> the network from which all others of the class are trained, as the user guide says."""
GUIDE = "user_guide.ipynb in the wheel"
AFTER_BINDING = "_to_HLAp"
"""Ending of a network that was trained on binding affinities and then on mass spectra."""


def content(opened: Mapping[str, Opened]) -> Content:
    """Returns the networks, with the parents that the files of the wheel name."""
    archive = opened[WHEEL.file]
    names = sorted(
        name.removeprefix(SAVES).removesuffix(".h5")
        for name in archive.names()
        if name.startswith(SAVES) and name.endswith(".h5")
    )
    tuned = {kind: _tuned(archive, kind) for kind in ROOTS}
    classes = {allele: kind for kind in ROOTS for allele in _alleles(archive, kind)}
    left_out, networks = [], []
    for name in names:
        allele = name.split("_BA")[0]
        kind = classes[allele]
        named = tuned[kind].get(name)
        parents: tuple[str, ...]
        if named is not None and tuned[kind].get(named) == name:
            left_out.append(LeftOut(f"{named} -> {name}", f"mhc_tuning.csv also names {named} as tuned from {name}"))
            parents, evidence = (), f"the parent is not known: {kind}/mhc_tuning.csv in the wheel names a cycle of two"
        elif name.endswith(AFTER_BINDING):
            parents = (name.removesuffix(AFTER_BINDING),)
            evidence = f"{GUIDE}: a BA_to_HLAp network is trained from the BA network of its allele"
        elif named is not None:
            parents, evidence = (
                (named,),
                f"{kind}/mhc_tuning.csv in the wheel: the allele, and that from which it is tuned",
            )
        elif name == ROOTS[kind]:
            parents, evidence = (), f"{GUIDE}: trained from scratch"
        else:
            parents, evidence = (
                (ROOTS[kind],),
                f"{GUIDE}: all other alleles of class {kind[3:]} are trained from {ROOTS[kind]}",
            )
        files, made = (f"{SAVES}{name}.h5",), bool(parents)
        networks.append(
            Network(
                name,
                WHEEL.file,
                files,
                read_keras,
                parents,
                "finetune" if made else None,
                "full" if made else None,
                evidence,
            )
        )
    return Content(networks, left_out)


def _tuned(archive: Opened, kind: str) -> dict[str, str]:
    """Returns network -> the network from which it is tuned."""
    text = archive.read(f"{DATA}{kind}/mhc_tuning.csv").decode()
    return {f"{row[0]}_BA": f"{row[1]}_BA" for row in csv.reader(io.StringIO(text)) if row}


def _alleles(archive: Opened, kind: str) -> list[str]:
    """Returns the alleles of a class that have networks."""
    return archive.read(f"{DATA}{kind}/alleles_with_trained_models.txt").decode().split()


FAMILY = RealFamily(
    name="mhcnuggets",
    description="Networks that predict which peptides bind to an MHC allele: one LSTM with two dense layers, 26,241 parameters. "
    "Two networks, one a class of alleles, were trained from scratch. The others are fine-tuned, in one, two or more steps.",
    archives=(WHEEL,),
    content=content,
    networks=299,
    edges=295,
    licence="The licence of mhcnuggets is academic and non-commercial.",
    libraries=("h5py",),
    notes=("the two edges of a cycle that mhc_tuning.csv names are not scored",),
)
