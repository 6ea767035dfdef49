"""Fingerprints: vectors of a whole model that fine-tuning hardly changes and that are equal for permuted copies.

Idea: they were published to tell whether one language model derives from another. Here models are clustered by their
fingerprints. Each cluster is spanned by its minimum spanning tree and rooted where the direction evidence is highest.

Sources, all written from the papers' descriptions, and departures:

* ``std-profile``: Yoon et al., Intrinsic Fingerprint of LLMs, arXiv 2507.03014 (withdrawn since): the standard deviations of
  the query, key, value and output matrices of each layer, compared by correlation. Departure: one correlation over all
  matrices instead of one for each kind, since small models have too few layers for that.
* ``ghostspec``: Wang et al., Ghost in the Transformer, arXiv 2511.06390: singular values of W_q^T W_k and W_o W_v of each
  layer, which no change of basis inside a head alters. They are compared by relative L2, layer by layer. Departure: the
  search for matching layers in models of different depth is left out; such models cannot be compared.
* ``awm``: Zeng et al., AWM, arXiv 2510.06738: unbiased centred kernel alignment of W^T W of the query and key matrices.
  Departure: the preceding assignment of embedding dimensions is left out, since no model here has its residual stream reordered.
* ``huref``: Zeng et al., HuRef, NeurIPS 2024, arXiv 2312.04828: X W_q^T W_k X^T, X W_o W_v X^T and X W_down W_up X^T with X the
  embeddings of ``tokens`` evenly spaced tokens, compared by cosine, mean over all layers. Departures: the paper uses rare tokens
  of the tokeniser and the last two layers. This fingerprint needs token embeddings and the names of Llama's tensors.

Attention matrices must be separate tensors; fused ones are not split. In grouped-query attention keys and values are narrower
than queries and outputs, and the weights do not say how heads are grouped. ``ghostspec`` then takes the singular values of
each matrix alone, and ``huref`` takes the term of the MLP only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts.arborescence import spanning_tree
from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.clustering import MIN_GAP, given_trees, largest_gap
from mothr.baselines.parts.directions import find_direction, kind_of, needs_of
from mothr.baselines.parts.distances import cosine, relative, replace_infinite
from mothr.baselines.parts.invariant import singular_values
from mothr.baselines.parts.learned import tuned_on
from mothr.baselines.parts.trees import Pair, rooted_forest
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet

SAME = 1e-9
"""Distances below this are rounding errors and count as 0. A permuted copy is at 0, and no gap lies between 0 and rounding."""


def _standard_deviations(*stacks: torch.Tensor) -> list[torch.Tensor]:
    """``std-profile``: the standard deviations of the matrices of one layer, one vector (k, matrices)."""
    return [torch.stack([stack.double().flatten(1).std(dim=1, correction=0) for stack in stacks], dim=1)]


def _spectra(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor) -> list[torch.Tensor]:
    """``ghostspec``: the singular values of W_q^T W_k and of W_o W_v, each (k, side); of each matrix with grouped queries."""
    if _grouped(query, key, value, output):
        return [singular_values(stack) for stack in (query, key, value, output)]
    return [singular_values(query.double().mT @ key.double()), singular_values(output.double() @ value.double())]


def _kernels(*stacks: torch.Tensor) -> list[torch.Tensor]:
    """``awm``: W^T W of each stack, centred so that inner products are unbiased HSIC estimates (Song et al. 2012), (k, side^2)."""
    kernels = []
    for stack in stacks:
        kernel = stack.double().mT @ stack.double()
        n = kernel.shape[1]
        kernel.diagonal(dim1=1, dim2=2).zero_()
        sums = kernel.sum(dim=1) / max(n - 2, 1)
        total = kernel.sum(dim=(1, 2)) / max((n - 1) * (n - 2), 1)
        centred = kernel - sums[:, :, None] - sums[:, None, :] + total[:, None, None]
        centred.diagonal(dim1=1, dim2=2).zero_()
        kernels.append(centred.flatten(1))
    return kernels


def _token_products(
    embeddings: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    *,
    count: int,
) -> list[torch.Tensor]:
    """``huref``: X P X^T for the products P of one layer, each (k, tokens^2); the MLP's product alone with grouped queries."""
    rows = embeddings.shape[1]
    chosen = embeddings[:, torch.linspace(0, rows - 1, min(count, rows)).long()].double()
    products = [down.double() @ up.double()]
    if not _grouped(query, key, value, output):
        products += [query.double().mT @ key.double(), output.double() @ value.double()]
    return [(chosen @ product @ chosen.mT).flatten(1) for product in products]


def _grouped(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor) -> bool:
    return query.shape != key.shape or output.mT.shape != value.shape


@dataclass(frozen=True, slots=True)
class FingerprintKind:
    """A published fingerprint: the matrices it uses, the vectors it makes of them, and how vectors are compared."""

    layers: tuple[str, ...]
    """The matrices of a layer; see :class:`mothr.benchmark.weights.layers.Layers`. A matrix that exists once is used in all layers."""
    form: Callable[..., list[torch.Tensor]]
    """Maps the stacks (k, *shape) of these matrices to vectors, each (k, numbers)."""
    distance: Callable[[torch.Tensor, tuple[str, ...]], Array]
    """Compares vectors: (k, numbers) to (k, k)."""
    joined: bool = False
    """Whether the vectors of all layers are joined and centred before they are compared; else distances are averaged."""


_ATTENTION = ("query", "key", "value", "output")
FINGERPRINTS = {
    "std-profile": FingerprintKind(_ATTENTION, _standard_deviations, cosine, joined=True),
    "ghostspec": FingerprintKind(_ATTENTION, _spectra, relative),
    "awm": FingerprintKind(("query", "key"), _kernels, cosine),
    "huref": FingerprintKind(
        (r"re:embed_tokens", *_ATTENTION, r"re:\bup_proj", r"re:\bdown_proj"),
        _token_products,
        cosine,
    ),
}
"""The fingerprints by name."""
Scheme = tuple[tuple[Key, ...], ...]
"""For each of a fingerprint's ``layers``, the (name, shape) of the matrices that a model holds."""


def fingerprint_distances(models: ModelSet, variant: str, tokens: int = 128) -> Array:
    """Returns the (n, n) distances of the fingerprints called ``variant``; inf if matrices differ in name or shape.

    Args:
        models: The models.
        variant: A key of :data:`FINGERPRINTS`.
        tokens: Number of tokens for ``huref``.

    Raises:
        MothrError: The name is unknown, or no model has the matrices that the fingerprint uses.
    """
    if variant not in FINGERPRINTS:
        raise unknown_name("variant", variant, FINGERPRINTS)
    kind = FINGERPRINTS[variant]
    if variant == "huref":
        kind = replace(kind, form=partial(_token_products, count=tokens))
    schemes: dict[Scheme, list[int]] = {}
    for position, model in enumerate(models.checkpoints):
        schemes.setdefault(tuple(_matrices(model, layers) for layers in kind.layers), []).append(position)
    matrix = np.full((len(models), len(models)), np.inf)
    np.fill_diagonal(matrix, 0.0)
    complete = [scheme for scheme in schemes if {len(keys) for keys in scheme} <= {1, max(map(len, scheme))} - {0}]
    if not complete:
        raise MothrError(
            f"variant {variant!r} looks at the matrices {', '.join(kind.layers)}, which no model has; choose another"
        )
    for scheme in complete:
        matrix[np.ix_(schemes[scheme], schemes[scheme])] = _distances(models, schemes[scheme], scheme, kind)
    matrix[matrix < SAME] = 0.0
    return matrix


def _matrices(model: Checkpoint, layers: str) -> tuple[Key, ...]:
    """Returns the (name, shape) of the matrices of ``layers`` that a model holds."""
    holds = Layers.parse(layers).holds
    return tuple(
        (name, info.shape) for name, info in model.tensors.items() if len(info.shape) == 2 and holds(name, info.shape)
    )


def _distances(models: ModelSet, positions: list[int], scheme: Scheme, kind: FingerprintKind) -> Array:
    """Returns the (k, k) distances of the k models at ``positions``, which all hold the matrices of ``scheme``."""
    depth = max(map(len, scheme))
    vectors = []
    for layer in range(depth):
        names = [keys[layer if len(keys) == depth else 0][0] for keys in scheme]
        vectors += kind.form(*(models.stack(name, positions) for name in names))
    if kind.joined:
        rows = torch.cat(vectors, dim=1)
        vectors = [rows - rows.mean(dim=1, keepdim=True)]
    return np.mean([kind.distance(rows, ()) for rows in vectors], axis=0)


@dataclass(frozen=True)
class Fingerprint:
    """Clusters of models with similar fingerprints, each spanned by its minimum spanning tree and rooted by direction evidence."""

    version: ClassVar[str] = "1"
    renamed: ClassVar[Mapping[str, str]] = {"kind": "variant"}

    variant: str = "std-profile"
    """The published fingerprint: ``std-profile``, ``ghostspec``, ``awm`` or ``huref``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    layers: str = "body"
    """Tensors that the direction score uses; see :class:`mothr.benchmark.weights.layers.Layers`."""
    tokens: int = 128
    """Number of evenly spaced tokens whose embeddings ``huref`` uses."""
    min_gap: float = MIN_GAP
    """Least ratio of merge heights that cuts the models into trees; see :func:`mothr.baselines.parts.clustering.largest_gap`."""

    def __post_init__(self) -> None:
        if self.variant not in FINGERPRINTS:
            raise unknown_name("variant", self.variant, FINGERPRINTS)
        check_at_least(self, 1, "tokens")
        check_at_least(self, 0, "min_gap")
        find_direction(self.direction)
        Layers.parse(self.layers)

    @property
    def kind(self) -> MethodKind:
        """The kind of method, which follows from the direction score."""
        return kind_of(self.direction)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that the direction score was fitted on."""
        return tuned_on(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """The side information that the direction score needs."""
        return needs_of(self.direction)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest; the largest gap cuts it into trees if none are given. Only the direction ``random`` uses ``rng``."""
        distances = fingerprint_distances(models, self.variant, self.tokens)
        given = given_trees(models)
        labels = largest_gap(distances, self.min_gap) if given is None else given
        finite = replace_infinite(distances)

        def span(part: NDArray[np.intp]) -> list[Pair]:
            return spanning_tree(finite[np.ix_(part, part)])

        return rooted_forest(models, labels, span, self.direction, Layers.parse(self.layers), rng)
