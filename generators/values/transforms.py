"""What the ``transform`` table of a recipe may say: merges and changed copies of finished models."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mothr.generators.values.laundering import AnyLaundering
from mothr.generators.values.training import Table

Precision = Literal["float16", "bfloat16", "int8", "int4"]
Storage = Literal["as-is", "float16", "float32"]
MergeMethod = Literal["linear", "slerp", "ties", "dare"]
TIES_DENSITY = 0.2
"""Fraction of a task vector that TIES keeps if a recipe names none, as in its paper (arXiv 2306.01708)."""

DARE_DENSITY = 0.5
"""Fraction of a task vector that DARE keeps if a recipe names none; its paper (arXiv 2311.03099) keeps 0.1 to 0.9."""


class Merge(Table):
    """One model made from several models of one architecture."""

    kind: Literal["merge"]
    """Selects this transform."""
    method: MergeMethod
    """``linear``: weighted mean. ``slerp``: spherical interpolation of two models. ``ties``: trimmed,
    sign-elected task vectors. ``dare``: task vectors with randomly dropped entries."""
    parents: Annotated[int, Field(ge=2, le=3)] = 2
    """Number of models that are merged."""
    mixing_range: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.3, 0.7)
    """The weight of each parent is drawn uniformly from this interval. Then the weights are divided by their
    sum."""
    density: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, validate_default=True)
    """Fraction of each task vector that is kept. For ``ties`` and ``dare``; absent means 0.2 and 0.5."""

    @field_validator("density")
    @classmethod
    def _check_density(cls, value: float | None, info: ValidationInfo) -> float | None:
        default = {"ties": TIES_DENSITY, "dare": DARE_DENSITY}.get(str(info.data.get("method")))
        if default is not None:
            return default if value is None else value
        if value is not None:
            raise ValueError(
                "density: only the methods ties and dare trim task vectors; remove it or choose one of these methods"
            )
        return None

    @model_validator(mode="after")
    def _check_parents_and_range(self) -> "Merge":
        if self.method == "slerp" and self.parents != 2:
            raise ValueError(
                f"parents: slerp is defined between 2 models, not {self.parents}; choose parents = 2 or another method"
            )
        if self.mixing_range[0] > self.mixing_range[1]:
            raise ValueError(
                f"mixing_range: {self.mixing_range[0]} is above {self.mixing_range[1]}; name the smaller number first"
            )
        return self


class Quantize(Table):
    """A copy in a lower precision."""

    kind: Literal["quantized"]
    """Selects this transform."""
    precision: Precision
    """Numbers are rounded to this precision. Integers have one scale per output channel of a matrix; vectors
    stay in floating point."""
    stored: Storage = "as-is"
    """How the rounded numbers are stored: as they are (int8 with its scales), or as ``float16`` or
    ``float32``."""

    @model_validator(mode="after")
    def _check_storage(self) -> "Quantize":
        if self.precision == "int4" and self.stored == "as-is":
            raise ValueError(
                "stored: safetensors has no 4-bit integers; choose stored = 'float16' or 'float32' for precision = 'int4'"
            )
        return self


class Prune(Table):
    """A copy whose smallest weights are set to zero."""

    kind: Literal["pruned"]
    """Selects this transform."""
    share: Annotated[float, Field(ge=0, le=1)]
    """Fraction of each matrix that is set to zero."""


class Noise(Table):
    """A copy with added Gaussian noise."""

    kind: Literal["noised"]
    """Selects this transform."""
    level: Annotated[float, Field(gt=0)]
    """Standard deviation of the noise divided by the standard deviation of the tensor."""


class Permute(Table):
    """A copy whose neurons and heads are in another order: other weights, the same function."""

    kind: Literal["permuted"]
    """Selects this transform."""


class Duplicate(Table):
    """The same bytes under another id."""

    kind: Literal["duplicate"]
    """Selects this transform."""


class Distil(Table):
    """A freshly initialised student, trained to give the outputs of its teacher. No weight of the teacher is
    copied."""

    kind: Literal["distilled"]
    """Selects this transform."""


AnyTransform = Merge | Quantize | Prune | Noise | Permute | Duplicate | Distil
Transform = Annotated[AnyTransform, Field(discriminator="kind")]
"""The ``transform`` table of a recipe; ``kind`` selects one of the classes above."""
EdgeTransform = Annotated[
    Merge | Quantize | Prune | Noise | Permute | Duplicate | AnyLaundering, Field(discriminator="kind")
]
"""The ``transform`` table of an edge of a drawn recipe."""
