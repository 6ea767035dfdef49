"""Layers: selects tensors of a model by their role or by their name.

The role of a tensor follows from its name. The rules know the names of transformers 4 and 5 (ViT, BERT, Llama,
GPT), timm, CLIP and diffusers. This module does not load torch.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mothr.benchmark.errors import MothrError, unknown_name

if TYPE_CHECKING:
    from mothr.benchmark.weights.model_set import ModelSet

Key = tuple[str, tuple[int, ...]]
"""Name and shape of a tensor."""

# A name is made lower case and split at its dots. The first rule that matches a word gives the role. An ambiguous
# word counts only if a word such as "attn" comes before it.
_NORM = re.compile(r".*norm.*|(ln|bn)_?[0-9a-z]*")
_EMBEDDING = re.compile(r"(?!time_|add_).*embed.*|wte|wpe|cls_token|pos_emb.*")
_HEAD = re.compile(r"lm_head|classifier|score|heads?|fc|logits|pre_logits|qa_outputs|.*_head|head_.*")
_MLP = re.compile(r"mlp|ff|ffn|feed_forward|fc_?\d|c_fc|intermediate|(gate|up|down)_proj|.*denserelu.*")
_ATTENTION = re.compile(r".*(attn|attention).*")
_PARTS = {
    "query": (re.compile(r"(q|query)_proj|to_q|q_lin|query"), re.compile(r"q|wq")),
    "key": (re.compile(r"(k|key)_proj|to_k|k_lin|key"), re.compile(r"k|wk")),
    "value": (re.compile(r"(v|value)_proj|to_v|v_lin|value"), re.compile(r"v|wv")),
    "fused": (re.compile(r"w?qkv(_proj)?|to_qkv|query_key_value|c_attn|in_proj_weight"), None),
    "output": (re.compile(r"o_proj|to_out|out_proj|out_lin|proj_attn"), re.compile(r"o|wo|dense|proj|c_proj")),
}
_ATTENTION_ROLES = ("query", "key", "value", "output", "fused")

PRESETS = {
    "all": "every tensor except integer buffers",
    "matrices": "every two-dimensional tensor without an axis of length 1",
    "body": "matrices and kernels of convolutions, without heads, since each task replaces its head or changes it strongly",
    "backbone": "every tensor except heads and integer buffers; vectors are included",
    "attention": "matrices of attention: query, key, value, output, and fused ones",
    "query": "query matrices of attention",
    "key": "key matrices of attention",
    "value": "value matrices of attention",
    "output": "output matrices of attention",
    "mlp": "matrices of the layers between attention",
    "embedding": "token, patch, class and position embeddings",
    "norm": "weights and biases of normalisation",
    "conv": "kernels of convolutions",
    "head": "classifier and language-model heads",
}
"""Name of each preset -> the tensors that it selects.

``square-<preset>`` selects only the square matrices among them.
"""
_BUFFERS = ("I64", "I32", "I16", "U64", "U32", "U16", "BOOL")
"""Number formats of buffers: positions, counters and masks.

Integers of 8 bits are not among them, since they may be weights.
"""


@cache
def role(name: str) -> str:
    """Returns the role of the tensor ``name`` in its model: the name of a preset, ``fused`` or ``other``."""
    words = name.lower().split(".")
    if any(_NORM.fullmatch(word) for word in words):
        return "norm"
    attention = max((index for index, word in enumerate(words) if _ATTENTION.fullmatch(word)), default=len(words))
    if not any(_MLP.fullmatch(word) for word in words[min(attention, len(words) - 1) :]):
        for part, (plain, ambiguous) in _PARTS.items():
            if any(plain.fullmatch(word) for word in words):
                return part
            if ambiguous is not None and any(ambiguous.fullmatch(word) for word in words[attention + 1 :]):
                return part
    if any(_MLP.fullmatch(word) for word in words) or words[-3:-1] == ["output", "dense"]:
        return "mlp"
    if any(_HEAD.fullmatch(word) for word in words):
        return "head"
    return "embedding" if any(_EMBEDDING.fullmatch(word) for word in words) else "other"


@dataclass(frozen=True)
class Layers:
    """A choice of tensors: a preset of :data:`PRESETS`, or a regular expression that is searched for in the names.

    Raises:
        MothrError: The preset is unknown, or the regular expression is not valid.
    """

    select: str
    """A preset, or ``re:`` followed by a regular expression."""
    square: bool = False
    """Whether to select only square matrices."""
    among: frozenset[str] | None = None
    """Names of the tensors to select from; None for all."""

    def __post_init__(self) -> None:
        if self.select.startswith("re:"):
            try:
                re.compile(self.select[3:])
            except re.error as error:
                raise MothrError(f"layers {self.select!r}: not a regular expression ({error})") from None
        elif self.select not in PRESETS:
            raise unknown_name(
                "layers", str(self), [*PRESETS, *(f"square-{name}" for name in PRESETS), "re:<expression>"]
            )

    @classmethod
    def parse(cls, text: str) -> "Layers":
        """Returns the choice written as ``<preset>`` or ``re:<expression>``, optionally after ``square-``."""
        return cls(text.removeprefix("square-"), square=text.startswith("square-"))

    def __str__(self) -> str:
        return f"square-{self.select}" if self.square else self.select

    def holds(self, name: str, shape: tuple[int, ...]) -> bool:
        """Returns whether a tensor of this name and shape is selected. The number format is not checked."""
        matrix = len(shape) == 2 and min(shape) >= 2
        if self.among is not None and name not in self.among:
            return False
        if 0 in shape or (self.square and not (matrix and shape[0] == shape[1])):
            return False
        if self.select.startswith("re:"):
            return re.search(self.select[3:], name) is not None
        if self.select == "all":
            return True
        if self.select == "matrices":
            return matrix
        if self.select == "body":
            return role(name) != "head" and (matrix or (len(shape) >= 3 and role(name) not in ("embedding", "norm")))
        if self.select == "backbone":
            return role(name) != "head"
        if self.select == "conv":
            return len(shape) >= 4 or (len(shape) == 3 and "conv" in name)
        if self.select == "attention":
            return matrix and role(name) in _ATTENTION_ROLES
        return role(name) == self.select and (matrix or self.select in ("embedding", "norm", "head"))

    def select_from(self, models: "ModelSet") -> list[Key]:
        """Returns the (name, shape) of every selected tensor of ``models``, sorted.

        Raises:
            MothrError: No tensor is selected. The error lists the roles that exist.
        """
        keys = []
        for (name, shape), positions in models.shapes.items():
            if self.holds(name, shape) and models.checkpoints[positions[0]].tensors[name].dtype not in _BUFFERS:
                keys.append((name, shape))
        if not keys:
            roles = Counter(role(name) for name, _ in models.shapes)
            name, shape = max(models.shapes, key=lambda key: len(key[1]))
            raise MothrError(
                f"layers {str(self)!r} select none of the {len(models.shapes)} tensors; there are "
                f"{', '.join(f'{count} {role_name}' for role_name, count in roles.most_common())}, for example {name!r} of shape {shape}. "
                f"Choose other layers: a preset ({', '.join(PRESETS)}), square-<preset>, or re:<expression>"
            )
        return keys

    def elements(self, models: "ModelSet") -> int:
        """Returns the number of elements of the selected tensors. Each (name, shape) counts once."""
        return sum(math.prod(shape) for _, shape in self.select_from(models))
