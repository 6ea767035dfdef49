"""Fingerprints: vectors of a whole model, made to survive fine-tuning and to be the same for permuted copies.

They were published to tell whether one language model derives from another. Here models are clustered by them, each cluster is
spanned by the shortest tree, and rooted where the evidence of a direction score is highest, as Linea does with its distance.
All are written from the papers' descriptions, for attention matrices that lie apart (fused ones are not cut up):

* ``std-profile``: Yoon et al., Intrinsic Fingerprint of LLMs, arXiv 2507.03014 (since withdrawn by arXiv): the standard
  deviations of query, key, value and output matrices of each layer, compared by correlation. One correlation over all of
  them instead of one for each kind of matrix, since small models have too few layers for that;
* ``ghostspec``: Wang et al., Ghost in the Transformer, arXiv 2511.06390: singular values of W_q^T W_k and W_o W_v of each
  layer, which no change of basis inside a head alters. Compared by relative L2, layer by layer; the search for matching layers
  in models of different depth is left out: these cannot be compared;
* ``awm``: Zeng et al., AWM, arXiv 2510.06738: unbiased centred kernel alignment of W^T W of query and key matrices. The
  assignment of embedding dimensions before it is left out, since no model here has its residual stream reordered;
* ``huref``: Zeng et al., HuRef, NeurIPS 2024, arXiv 2312.04828: X W_q^T W_k X^T, X W_o W_v X^T and X W_down W_up X^T with X the
  embeddings of TOKENS evenly spaced tokens (published: rare ones of the tokeniser), compared by cosine, mean over all layers
  (published: the last two). It needs the embeddings of tokens and Llama's names, so it has nothing to say of other families.

In grouped-query attention keys and values are narrower than queries and outputs, and how heads are grouped is not in the
weights: ``ghostspec`` then takes the singular values of each matrix by itself, ``huref`` the MLP's term alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts.arborescence import spanning_tree
from mothr.baselines.parts.clustering import given_trees, largest_gap
from mothr.baselines.parts.directions import find_direction, kind_of
from mothr.baselines.parts.distances import cosine, relative, replace_infinite
from mothr.baselines.parts.invariant import singular_values
from mothr.baselines.parts.learned import tuned_on
from mothr.baselines.parts.trees import Pair, forest
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet

TOKENS = 128
"""Tokens that ``huref`` looks at."""
SAME = 1e-9
"""Distances below this are rounding: a permuted copy is at zero, and no gap is found between zero and rounding."""


def _deviations(*stacks: torch.Tensor) -> list[torch.Tensor]:
    return [torch.stack([stack.double().flatten(1).std(dim=1, correction=0) for stack in stacks], dim=1)]


def _spectra(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor) -> list[torch.Tensor]:
    if query.shape != key.shape or output.mT.shape != value.shape:
        return [singular_values(stack) for stack in (query, key, value, output)]
    return [singular_values(query.double().mT @ key.double()), singular_values(output.double() @ value.double())]


def _kernels(*stacks: torch.Tensor) -> list[torch.Tensor]:
    """Returns W^T W of each stack, centred so that inner products are unbiased HSIC estimates (Song et al. 2012)."""
    found = []
    for stack in stacks:
        kernel = stack.double().mT @ stack.double()
        n = kernel.shape[1]
        kernel.diagonal(dim1=1, dim2=2).zero_()
        sums = kernel.sum(dim=1) / max(n - 2, 1)
        total = kernel.sum(dim=(1, 2)) / max((n - 1) * (n - 2), 1)
        centred = kernel - sums[:, :, None] - sums[:, None, :] + total[:, None, None]
        centred.diagonal(dim1=1, dim2=2).zero_()
        found.append(centred.flatten(1))
    return found


def _terms(
    tokens: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    *mlp: torch.Tensor,
) -> list[torch.Tensor]:
    up, down = (stack.double() for stack in mlp)
    some = tokens[:, torch.linspace(0, tokens.shape[1] - 1, min(TOKENS, tokens.shape[1])).long()].double()
    inner = [down @ up]
    if query.shape == key.shape and output.mT.shape == value.shape:
        inner += [query.double().mT @ key.double(), output.double() @ value.double()]
    return [(some @ product @ some.mT).flatten(1) for product in inner]


@dataclass(frozen=True)
class Kind:
    """A fingerprint: what is taken of each layer and how it is compared."""

    layers: tuple[str, ...]
    """The matrices of a layer that it looks at; see :class:`mothr.benchmark.weights.layers.Layers`. One for all layers is given to each."""
    form: Callable[..., list[torch.Tensor]]
    """Maps the stacks (k, *shape) of these matrices to vectors, each (k, numbers)."""
    distance: Callable[[torch.Tensor, tuple[str, ...]], Array]
    """Compares vectors."""
    joined: bool = False
    """Whether the vectors of all layers are joined and centred before they are compared, or compared one by one and averaged."""


_ATTENTION = ("query", "key", "value", "output")
FINGERPRINTS = {
    "std-profile": Kind(_ATTENTION, _deviations, cosine, joined=True),
    "ghostspec": Kind(_ATTENTION, _spectra, relative),
    "awm": Kind(("query", "key"), _kernels, cosine),
    "huref": Kind((r"re:embed_tokens", *_ATTENTION, r"re:\bup_proj", r"re:\bdown_proj"), _terms, cosine),
}
"""The fingerprints by name."""
Scheme = tuple[tuple[Key, ...], ...]
"""For each of a kind's ``layers`` the matrices that a model holds, by name."""


def fingerprint_distances(models: ModelSet, variant: str) -> Array:
    """Returns the (n, n) distances of the fingerprints called ``variant``; inf for models whose matrices differ in name or shape.

    Raises:
        MothrError: an unknown variant, or no model has the matrices that it looks at.
    """
    if variant not in FINGERPRINTS:
        raise unknown_name("variant", variant, FINGERPRINTS)
    schemes: dict[Scheme, list[int]] = {}
    for position, model in enumerate(models.checkpoints):
        schemes.setdefault(tuple(_chosen(model, layers) for layers in FINGERPRINTS[variant].layers), []).append(
            position
        )
    found = np.full((len(models), len(models)), np.inf)
    np.fill_diagonal(found, 0.0)
    complete = [scheme for scheme in schemes if {len(keys) for keys in scheme} <= {1, max(map(len, scheme))} - {0}]
    if not complete:
        raise MothrError(
            f"variant {variant!r} looks at the matrices {', '.join(FINGERPRINTS[variant].layers)}, which no model has; choose another"
        )
    for scheme in complete:
        found[np.ix_(schemes[scheme], schemes[scheme])] = _compared(
            models, schemes[scheme], scheme, FINGERPRINTS[variant]
        )
    found[found < SAME] = 0.0
    return found


def _chosen(model: Checkpoint, layers: str) -> tuple[Key, ...]:
    holds = Layers.parse(layers).holds
    return tuple(
        (name, info.shape) for name, info in model.tensors.items() if len(info.shape) == 2 and holds(name, info.shape)
    )


def _compared(models: ModelSet, positions: list[int], scheme: Scheme, kind: Kind) -> Array:
    """Returns the distances of the models at ``positions``, all of which hold the matrices of ``scheme``."""
    depth = max(map(len, scheme))
    forms = []
    for layer in range(depth):
        names = [keys[layer if len(keys) == depth else 0][0] for keys in scheme]
        forms += kind.form(*(models.stack(name, positions) for name in names))
    if kind.joined:
        rows = torch.cat(forms, dim=1)
        forms = [rows - rows.mean(dim=1, keepdim=True)]
    return np.mean([kind.distance(form, ()) for form in forms], axis=0)


@dataclass(frozen=True)
class Fingerprint:
    """Clusters of models of like fingerprints, each spanned by their shortest tree and rooted by summed direction evidence."""

    version: ClassVar[str] = "1"
    renamed: ClassVar[Mapping[str, str]] = {"kind": "variant"}

    variant: str = "std-profile"
    """The published fingerprint: ``std-profile``, ``ghostspec``, ``awm`` or ``huref``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    layers: str = "body"
    """Tensors the direction score looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""

    def __post_init__(self) -> None:
        if self.variant not in FINGERPRINTS:
            raise unknown_name("variant", self.variant, FINGERPRINTS)
        find_direction(self.direction)
        Layers.parse(self.layers)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that its direction score was fitted on, if it was."""
        return tuned_on(self.direction)

    @property
    def kind(self) -> MethodKind:
        """The kind of method: ``null`` with the direction ``random``, ``oracle`` with the direction ``oracle``."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: nothing, save the truth for the direction ``oracle``."""
        return frozenset({"truth"}) if self.direction == "oracle" else frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest; where the trees are not told they are cut at the largest gap. ``rng`` is for the direction ``random``."""
        found = fingerprint_distances(models, self.variant)
        told = given_trees(models)
        far = replace_infinite(found)

        def span(part: NDArray[np.intp]) -> list[Pair]:
            return [(int(part[i]), int(part[j])) for i, j in spanning_tree(far[np.ix_(part, part)])]

        return forest(
            models, largest_gap(found) if told is None else told, span, self.direction, Layers.parse(self.layers), rng
        )
