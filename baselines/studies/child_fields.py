"""What the truth and the header of the weights record of a child: how it was trained, how its task was chosen, how it is stored."""

from typing import Any

from mothr.benchmark.data.dataset import TruthNode
from mothr.benchmark.data.updates import weights_of
from mothr.benchmark.weights.checkpoint import Checkpoint

STORED_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8",
}  # fmt: skip
"""Number format in the notation of safetensors -> its name here; a format that is not in the table keeps its own."""


def training_fields(record: TruthNode) -> dict[str, str | None]:
    """Returns ``trained``, ``averaging``, ``label_noise``, ``l2_sp`` and ``lora`` of a child; see ``EDGE_FIELDS``.

    All are None if the truth has no record of a training. ``lora`` is None as well if no low-rank update was trained.
    """
    training = record.training or {}
    if "steps" not in training:
        return dict.fromkeys(("trained", "averaging", "label_noise", "l2_sp", "lora"))
    low_rank = training.get("rank") is not None
    averages = [name for name in ("ema", "tail_average") if training.get(name) is not None]
    return {
        "trained": "low-rank update" if low_rank else training.get("trained") or "everything",
        "averaging": averages[0].replace("_", " ") if averages else "none",
        "label_noise": _yes_or_no(training.get("label_noise")),
        "l2_sp": _yes_or_no(training.get("l2_sp")),
        "lora": " and ".join(name for name in ("dora", "rslora") if training.get(name)) or "lora" if low_rank else None,
    }


def task_rule(record: TruthNode) -> str | None:
    """Returns how the task of a child was chosen, if the truth says so: ``new``, ``sibling``, ``parent`` or ``continued``.

    ``sibling``: the task of an earlier child of the same parent. ``continued``: the training of the parent goes on, which
    the subtype says as well. The other rules are known of drawn recipes alone.
    """
    if (record.subtype or "").endswith("continued"):
        return "continued"
    return (record.drawn or {}).get("task_rule")


def storage(checkpoint: Checkpoint) -> str | None:
    """Returns the number formats of the weights of a model, such as ``float32`` or ``float16 and int8``; None without weights.

    It is read from the header. Integer buffers, and the scales of stored integers, do not count.
    """
    dtypes = (checkpoint.tensors[name].dtype for name in weights_of(checkpoint))
    formats = {STORED_NAMES.get(dtype, dtype) for dtype in dtypes}
    return " and ".join(sorted(formats)) or None


def kind_with_setting(kind: str, record: TruthNode, name: str | None) -> str:
    """Returns the kind of an edge, followed by the setting of its transform, such as ``quantized int8``.

    A number that was drawn for this edge alone is left out, since no other edge shares it.

    Args:
        kind: The kind of the edge.
        record: What the truth records of the child.
        name: Name of the setting in ``record.transform``; None if the kind has none.
    """
    setting: Any = None if name is None else (record.transform or {}).get(name)
    paths = [path for path in record.drawn or {} if path.startswith("transform") and path.endswith(f".{name}")]
    drawn = paths and not isinstance(setting, str)
    return kind if setting is None or drawn else f"{kind} {setting}"


def _yes_or_no(value: float | None) -> str:
    return "no" if value is None else "yes"
