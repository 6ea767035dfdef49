"""What a laundering does to the weights of one model: symmetries, widths, depths, edits and mixtures.

A laundered copy hides where its weights come from. Most kinds keep the function of the model, or nearly so.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mothr.generators.values.training import Table

Initialisation = Literal["normal", "truncated-normal", "xavier-uniform", "orthogonal", "kaiming-uniform"]
Positive = Annotated[float, Field(gt=0)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Exponent = Annotated[float, Field(gt=0, le=8)]


class LaunderingTable(Table):
    """What all kinds of laundering have in common."""

    exact: ClassVar[bool] = False
    """Whether the result computes the same function, apart from rounding, whatever the fields are."""
    needs_other: ClassVar[bool] = False
    """Whether a second model of the same sizes is needed."""
    descends: ClassVar[bool] = True
    """Whether the result descends from its source. A decoy does not: it is a root."""

    @property
    def preserves_function(self) -> bool:
        """Whether the result computes the same function, apart from rounding."""
        return self.exact


# Symmetries


class Rotated(LaunderingTable):
    """The residual stream is rotated, after gains and biases of norms moved into the layers that read them."""

    exact = True
    kind: Literal["rotated"]
    """Selects this laundering."""


class Rescaled(LaunderingTable):
    """Channels inside of attention and MLPs are multiplied by factors that cancel."""

    exact = True
    kind: Literal["rescaled"]
    """Selects this laundering."""
    spread: Exponent = 3.0
    """The factors are 2^U(-spread, spread)."""


class SignFlipped(LaunderingTable):
    """Random signs of channels inside of attention and MLPs and, below RMS norms, of the residual stream."""

    exact = True
    kind: Literal["sign-flipped"]
    """Selects this laundering."""


class Reordered(LaunderingTable):
    """Neurons, heads, channels of heads and channels of the residual stream in a random order."""

    exact = True
    kind: Literal["reordered"]
    """Selects this laundering."""


class AllSymmetries(LaunderingTable):
    """``rotated``, ``rescaled``, ``sign-flipped`` and ``reordered``, in this order."""

    exact = True
    kind: Literal["all-symmetries"]
    """Selects this laundering."""
    spread: Exponent = 3.0
    """The factors of ``rescaled`` are 2^U(-spread, spread)."""


# Widths


class DummyNeurons(LaunderingTable):
    """More neurons in each MLP, which together add nothing to its output."""

    exact = True
    kind: Literal["dummy-neurons"]
    """Selects this laundering."""
    fraction: Annotated[float, Field(gt=0, le=1)]
    """Number of new neurons divided by the number of neurons; rounded to an even number, and at least two."""
    how: Literal["zero", "cancelling", "split"]
    """``zero``: their output weights are zero. ``cancelling``: pairs with equal inputs and opposite outputs. ``split``: a
    neuron becomes two, which share its output weights."""


class Widened(LaunderingTable):
    """A wider model that computes the same function (Net2WiderNet, Chen et al. 2016), plus noise."""

    kind: Literal["widened"]
    """Selects this laundering."""
    factor: Annotated[float, Field(gt=1, le=2)]
    """Every widened size is multiplied by this."""
    part: Literal["mlp", "all"] = "mlp"
    """``mlp``: the hidden layers of the MLPs. ``all``: these, the residual stream and the number of heads; for ``vit`` only
    with factor 2."""
    noise: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """Standard deviation of the noise on each widened matrix, divided by that of the matrix. It makes equal copies differ,
    so that training can separate them. With 0 the function is preserved. With 0.001 the outputs of trained models of width
    48 changed by 0.01 to 0.09 % of the largest output."""

    @property
    def preserves_function(self) -> bool:
        """Whether the result computes the same function, apart from rounding: only without noise."""
        return self.noise == 0


# Depths


class BlocksRepeated(LaunderingTable):
    """A deeper model in which middle blocks occur twice (depth up-scaling, Kim et al. 2023, arXiv 2312.15166)."""

    kind: Literal["blocks-repeated"]
    """Selects this laundering."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Number of blocks that occur twice, divided by the number of blocks; at least one block."""


class BlocksAdded(LaunderingTable):
    """A deeper model with new blocks that add nothing to the residual stream (Wu et al. 2024, arXiv 2401.02415)."""

    exact = True
    kind: Literal["blocks-added"]
    """Selects this laundering."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Number of new blocks divided by the number of blocks; at least one block."""


class BlocksDropped(LaunderingTable):
    """A shallower model: random blocks are left out."""

    kind: Literal["blocks-dropped"]
    """Selects this laundering."""
    fraction: OpenFraction
    """Number of blocks that are left out divided by the number of blocks; at least one block."""


class Upcycled(LaunderingTable):
    """A mixture of experts, each a copy of the MLP (sparse upcycling, Komatsuzaki et al. 2023, arXiv 2212.05055)."""

    exact = True
    kind: Literal["upcycled"]
    """Selects this laundering."""
    experts: Annotated[int, Field(ge=2, le=64)] = 4
    """Experts per block. Each token uses two of them, with weights of sum 1."""


# Edits


class Projected(LaunderingTable):
    """A random direction is projected out of all that is written to the residual stream, as in abliteration
    (Arditi et al. 2024, arXiv 2406.11717)."""

    kind: Literal["projected"]
    """Selects this laundering."""
    strength: Annotated[float, Field(gt=0, le=2)]
    """The part along the direction is multiplied by 1 - strength: 1 removes it, 2 reflects it."""
    norm_preserving: bool = False
    """Whether each row of a changed matrix is scaled back to its former norm. A row is then not free of the direction."""


class RowChanged(LaunderingTable):
    """One row of one matrix of the blocks is drawn anew."""

    kind: Literal["row-changed"]
    """Selects this laundering."""


class VocabularyReplaced(LaunderingTable):
    """The embeddings of random tokens, and their rows of the head, are drawn anew from the statistics of the others."""

    kind: Literal["vocabulary-replaced"]
    """Selects this laundering."""
    fraction: OpenFraction = 0.3
    """Fraction of the tokens."""


class NoiseAdded(LaunderingTable):
    """Gaussian noise on every tensor."""

    kind: Literal["noise-added"]
    """Selects this laundering."""
    level: Positive
    """Standard deviation of the noise divided by the mean absolute value of the tensor."""


# Mixtures


class Diluted(LaunderingTable):
    """The weighted mean of the source and a model of another tree."""

    needs_other: ClassVar[bool] = True
    kind: Literal["diluted"]
    """Selects this laundering."""
    share: OpenFraction
    """Weight of the other model; the source's weight is 1 - share."""


class Decoy(LaunderingTable):
    """A stranger that shares tensors with its source: they are copied and stay fixed, and all others are fresh."""

    descends: ClassVar[bool] = False
    kind: Literal["decoy"]
    """Selects this laundering."""
    shared: Literal["embeddings", "first-block", "norms"]
    """The shared tensors."""
    init: Initialisation = "truncated-normal"
    """Distribution of the fresh matrices."""
    init_std: Positive = 0.02
    """Standard deviation of ``normal`` and ``truncated-normal``."""


AnyLaundering = (
    Rotated | Rescaled | SignFlipped | Reordered | AllSymmetries | DummyNeurons | Widened | BlocksRepeated | BlocksAdded
    | BlocksDropped | Upcycled | Projected | RowChanged | VocabularyReplaced | NoiseAdded | Diluted | Decoy
)  # fmt: skip
Laundering = Annotated[AnyLaundering, Field(discriminator="kind")]
"""One laundering; ``kind`` selects one of the classes above."""
