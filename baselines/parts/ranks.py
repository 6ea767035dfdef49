"""The rank of the difference of two matrices above the noise of storage, and its other singular values.

``rank`` is that of MoTHer, arXiv 2405.18432, l_LoRA. ``energy_rank`` and ``spectral`` need no noise floor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts.precision import precision
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.streaming import CHUNK, device

RANK_MARGIN = 1.25
"""A singular value counts if it is above this many times the bound on the singular values of rounding errors.

It was calibrated on weights of 8 x 8 to 384 x 384 (Gaussian, heavy-tailed, with outliers), stored as float32, float16,
bfloat16 and int8. The largest singular value of the noise was 0.2 to 0.6 of the bound after one merge of an adapter, and
0.4 to 1.2 after three merges in a row. It is a parameter of the feature ``rank``."""
SPARE = 8
"""Columns of a sketch beyond the rank, and number of vectors in the power iteration. It affects speed, not results."""
CLEAR = 0.7
"""A split is used if the norm of its rest is below this many times the floor; otherwise all singular values are computed."""
SLACK = 1.1
"""Factor by which the norm of the rest may be larger than the estimate of the power iteration."""
SMALL = 128
"""Smallest side from which sketches are cheaper than all singular values."""


def as_matrices(stack: torch.Tensor) -> torch.Tensor:
    """Returns a stack (k, *shape) as matrices (k, first side, product of the others). Sides of 1 are dropped; a vector is one row."""
    sides = [side for side in stack.shape[1:] if side > 1]
    return stack.reshape(len(stack), sides[0] if len(sides) > 1 else 1, -1)


def rank(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the rank of W_i - W_j, (k, k); see :func:`rank_of_pairs`."""
    k = len(stack)
    first, second = np.triu_indices(k, 1)
    ranks = np.zeros((k, k))
    ranks[first, second] = ranks[second, first] = rank_of_pairs(stack, dtypes, np.stack([first, second], axis=1))
    return ranks


def rank_of_pairs(stack: torch.Tensor, dtypes: tuple[str, ...], pairs: NDArray[np.intp]) -> Array:
    """Returns the rank of W_i - W_j of m pairs, (m,) float64: the number of singular values above the noise of storage.

    MoTHer, arXiv 2405.18432, l_LoRA; only the tolerance is another one. A merged update is rounded to the precision that it
    is stored in, and rounding noise has full rank. With numpy's default tolerance a rank of 16 becomes about 350 of 384 if
    weights are stored in 16 bits. Independent noise with entries of sizes e_ij has singular values up to about
    max_i |e_i.| + max_j |e_.j| (Bandeira and van Handel 2016). The e_ij are proportional to the spacing of stored numbers at
    w_ij. A singular value counts if it is above RANK_MARGIN sqrt(b_i^2 + b_j^2), with b_i, b_j the bounds of the two models.
    An update below this floor cannot be distinguished from none.

    The precision is that of the stored numbers, or a coarser one (float16, bfloat16, int8 with one scale for each row or for
    the tensor) in which all of them can be represented. So the floor is too high for a child that was merged in a finer
    precision than its parent. The weights alone cannot distinguish this from a rounded child. Weights that were rounded
    to int8 and then to bfloat16 count as bfloat16, so their rank is too high.

    Sketches decide most pairs (:class:`_Sketches`). If they leave a doubt, all singular values are computed.

    Args:
        stack: (k, *shape), one tensor of k models.
        dtypes: The k stored types, in the words of safetensors.
        pairs: (m, 2) positions in the stack.
    """
    matrices = as_matrices(stack).to(device())
    floors = torch.stack([_noise(matrix, dtype) for matrix, dtype in zip(matrices, dtypes, strict=True)])
    i, j = torch.from_numpy(np.asarray(pairs, dtype=np.int64).reshape(-1, 2)).to(matrices.device).T
    floor = RANK_MARGIN * torch.hypot(floors[i], floors[j])
    ranks = torch.full((len(i),), torch.nan, dtype=torch.float64, device=matrices.device)
    if min(matrices.shape[1:]) >= SMALL:
        by_sketches = _by_sketches(matrices, floors.tolist(), list(zip(i.tolist(), j.tolist(), strict=True)))
        ranks = torch.tensor(by_sketches, dtype=torch.float64, device=matrices.device)
    undecided = ranks.isnan().nonzero()[:, 0]
    for part in undecided.split(max(1, CHUNK // matrices[0].numel())) if len(undecided) else ():
        ranks[part] = _by_all_values(matrices[i[part]].double() - matrices[j[part]].double(), floor[part])
    return ranks.cpu().numpy()


def _by_all_values(differences: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Returns how many singular values of each matrix, (p, rows, columns), exceed its floor, (p,), and the arithmetic error."""
    rows, columns = differences.shape[1:]
    ranks = torch.full((len(differences),), float(min(rows, columns)), dtype=torch.float64, device=differences.device)
    doubtful = ~_surely_full(differences, floor)
    values = torch.linalg.svdvals(differences[doubtful])
    ranks[doubtful] = (
        (values > torch.maximum(floor[doubtful], _exact(rows, columns) * values[:, 0])[:, None]).sum(dim=1).double()
    )
    return ranks


def _exact(rows: int, columns: int) -> float:
    """Returns the relative arithmetic error of singular values in float64 (numpy's default tolerance)."""
    return max(rows, columns) * torch.finfo(torch.float64).eps


def _surely_full(matrices: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Returns for each matrix A, (p,), True only if all its singular values exceed ``floor`` f; this holds for most unrelated models.

    Then A A^T - f^2 I has a Cholesky factor, which is ten times cheaper than singular values. A millionth of the Frobenius
    norm is added to f, since squaring loses half of the digits.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    gram = wide @ wide.mT
    bound = floor + 1e-6 * gram.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt()
    gram.diagonal(dim1=1, dim2=2).sub_(bound.square()[:, None])
    positive: torch.Tensor = torch.linalg.cholesky_ex(gram).info == 0
    return positive & (bound > 0)


@dataclass(frozen=True, slots=True)
class _Split:
    """A difference of two matrices as U S V^T + E: the components above the noise floor, and the rest E."""

    left: torch.Tensor
    """U^T, (c, rows), orthonormal; stored as rows, the layout that decompositions take without a copy."""
    values: torch.Tensor
    """The diagonal of S, (c,), ascending."""
    right: torch.Tensor
    """V^T, (c, columns), orthonormal."""
    beyond: float
    """The spectral norm of E by power iteration, plus the arithmetic error."""


class _Sketches:
    """Random sketches of k matrices. They split a difference of small rank at a fraction of the cost of all singular values.

    Sketches are linear, so the sketch of a difference D is the difference of two sketches. The two-sided sketch
    Psi^T D Omega says how many columns are needed. Q spans that many columns of D Omega (Halko, Martinsson and Tropp 2011).
    V spans the part of the row space of Q^T D that is above the floor. The singular values of D V V^T are never larger than
    those of D, so those above the floor count. The next singular value of D is at most the norm of E = D (I - V V^T). Power
    iteration estimates this norm; it starts with the vectors of Q^T D that do not count.
    """

    def __init__(self, matrices: torch.Tensor) -> None:
        self.matrices, self.centre = matrices, matrices.mean(dim=0)
        self.generator = torch.Generator().manual_seed(
            0
        )  # results do not depend on it, only how many pairs sketches decide
        _, rows, columns = matrices.shape
        self.widest = min(rows, columns) // 4
        self.left, self.columns = matrices.new_zeros(rows, 0), matrices.new_zeros(len(matrices), rows, 0)
        self.cores = matrices.new_zeros(len(matrices), 0, 0)
        self.single = torch.empty_like(matrices[0], dtype=torch.float32)
        self.double = torch.empty((2, rows, columns), dtype=torch.float64, device=matrices.device)
        self.held = -1  # position of the matrix in self.double[1]
        self.lost = (
            torch.finfo(torch.float32).eps / 2 * (rows + columns) ** 0.5
        )  # error of a product with a matrix of norm 1 in float32

    def _widen(self, width: int) -> None:
        """Makes sketches of at least ``width`` columns."""
        _, rows, columns = self.matrices.shape
        while self.columns.shape[2] < width:
            more = min(self.columns.shape[2] or 4 * SPARE, self.widest - self.columns.shape[2])
            drawn = [
                torch.randn(side, more, generator=self.generator).to(self.matrices) / side**0.5
                for side in (rows, columns)
            ]
            new = torch.stack([matrix @ drawn[1] for matrix in self.matrices]) - self.centre @ drawn[1]
            self.left, self.columns = torch.cat([self.left, drawn[0]], dim=1), torch.cat([self.columns, new], dim=2)
            self.cores = self.left.T @ self.columns

    def middle(self, among: Sequence[int]) -> int:
        """Returns the model of ``among`` with the least sum of distances to all of them, by sketches."""
        self._widen(min(4 * SPARE, self.widest))
        cores = self.cores[list(among)].flatten(1)
        return among[int(torch.cdist(cores, cores).sum(dim=1).argmin())]

    def split(self, i: int, j: int, floor: float, steps: int) -> _Split | None:
        """Returns the difference of matrices i and j, split at ``floor``; None if the rank is too high or in doubt."""
        width = self._width(i, j, floor)
        if width > self.widest:
            return None
        difference = self._difference(i, j, floor)
        while width <= self.widest:
            self._widen(width)
            basis = torch.linalg.qr((self.columns[i, :, :width] - self.columns[j, :, :width]).to(difference.dtype))[0]
            inner = basis.T @ difference
            values, vectors = _spectrum(inner)
            if floor < 100 * _exact(*difference.shape) * float(values[-1]):  # too near to the arithmetic error
                return None
            rest = width - int((values > floor).sum())
            if rest >= SPARE:
                right = vectors[:, rest:].T @ inner / values[rest:, None].to(inner.dtype)
                lost = self.lost * float(values.norm()) if inner.dtype == torch.float32 else 0.0
                beyond = lost + _norm_beyond(difference, right, vectors[:, rest - SPARE : rest].T @ inner, steps)
                outer = right @ difference.T
                values, vectors = _spectrum(outer)
                if beyond > CLEAR * floor or bool((values < 1.0001 * floor + lost).any()):
                    return None
                return _Split(vectors.T @ outer / values[:, None].to(outer.dtype), values, vectors.T @ right, beyond)
            width = max(width + SPARE, min(2 * width, self.widest))
        return None

    def _difference(self, i: int, j: int, floor: float) -> torch.Tensor:
        """Returns W_i - W_j, in float32 if its rounding stays well below the floor. The next call overwrites it."""
        core = self.cores[i] - self.cores[j]
        norm = float(core.norm()) * math.sqrt(
            self.matrices[0].numel() / core.numel()
        )  # norm of the difference, up to chance
        if self.matrices.dtype == torch.float32 and self.lost * norm < (1 - CLEAR) / 2 * floor:
            return torch.sub(self.matrices[i], self.matrices[j], out=self.single)
        if self.held != j:  # many matrices are split from the same one
            self.double[1].copy_(self.matrices[j])
            self.held = j
        return self.double[0].copy_(self.matrices[i]).sub_(self.double[1])

    def _width(self, i: int, j: int, floor: float) -> int:
        """Returns the number of columns that show the rank: cores grow until SPARE of their singular values are below the floor."""
        width, share = min(4 * SPARE, self.widest), floor / min(self.matrices.shape[1:]) ** 0.5
        while True:
            self._widen(width)
            core = self.cores[i, :width, :width] - self.cores[j, :width, :width]
            count = int((torch.linalg.svdvals(core) > share * width**0.5).sum())
            if count <= width - SPARE:
                return count + SPARE
            if width == self.widest:
                return width + 1
            width = min(2 * width, self.widest)


def _spectrum(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the singular values of a matrix of few rows, float64, ascending, and its left singular vectors."""
    wide = rows.double()
    squares, vectors = torch.linalg.eigh(wide @ wide.T)
    return squares.clamp(min=0).sqrt(), vectors.to(rows.dtype)


def _norm_beyond(difference: torch.Tensor, right: torch.Tensor, begin: torch.Tensor, steps: int) -> float:
    """Returns the norm of D (I - V V^T) after ``steps`` power iterations from the rows ``begin``; it grows with the steps."""
    inner = begin
    while True:
        inner = torch.linalg.qr((inner - (inner @ right.T) @ right).T)[0].T
        outer = inner @ difference.T
        if (steps := steps - 1) == 0:
            return float(_spectrum(outer)[0][-1])
        inner = torch.linalg.qr(outer.T)[0].T @ difference


def _rank_between(first: _Split, second: _Split, floor: float) -> float:
    """Returns the rank of W_i - W_j if both matrices are split from the same third one; NaN if in doubt.

    W_i - W_j = F + (E_i - E_j) with F = U_i S_i V_i^T - U_j S_j V_j^T. So no singular value of the difference is farther from
    that of F than |E_i| + |E_j| (Weyl). F has the singular values of a matrix of c_i + c_j rows and columns.
    """
    first, second = sorted((first, second), key=lambda split: -len(split.values))
    left, right = _in_basis(first.left, second.left), _in_basis(first.right, second.right)
    core = -(left.T * second.values.to(left.dtype)) @ right
    core.diagonal()[: len(first.values)] += first.values
    values: list[float] = torch.linalg.svdvals(core).tolist()
    largest = max([float(split.values[-1]) for split in (first, second) if len(split.values)], default=0.0)
    slack = SLACK * (first.beyond + second.beyond) + 8 * torch.finfo(left.dtype).eps * largest
    doubt = slack >= floor or any(abs(value - floor) <= slack for value in values)
    return math.nan if doubt else float(sum(value > floor for value in values))


def _in_basis(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the rows of ``second``, (c, side), in the basis of the rows of ``first``, extended where it does not suffice."""
    first, second = (basis.to(torch.promote_types(first.dtype, second.dtype)) for basis in (first, second))
    shared = second @ first.T
    return torch.cat([shared, torch.linalg.qr((second - shared @ first).T, mode="r")[1].T], dim=1)


def _by_sketches(matrices: torch.Tensor, floors: Sequence[float], pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Returns the rank of each difference; NaN if only all singular values can decide."""
    sketches, ranks, tried = _Sketches(matrices), dict.fromkeys(pairs, math.nan), set()

    def split(i: int, j: int, steps: int) -> _Split | None:
        tried.add((i, j))
        return sketches.split(i, j, RANK_MARGIN * math.hypot(floors[i], floors[j]), steps)

    left = sorted({position for pair in pairs for position in pair}) if len(pairs) > 2 * len(matrices) else []
    while len(left) > 1:
        reference = sketches.middle(left)
        splits = {position: split(position, reference, 2) for position in left if position != reference}
        near = {position: part for position, part in splits.items() if part is not None}
        for i, j in permutations([reference, *near], 2):
            if (i, j) in ranks and reference in (i, j):
                ranks[i, j] = len(near[i if j == reference else j].values)
            elif (i, j) in ranks:
                ranks[i, j] = _rank_between(near[i], near[j], RANK_MARGIN * math.hypot(floors[i], floors[j]))
        left = [position for position in left if position != reference and position not in near]
    for i, j in pairs:
        if (
            math.isnan(ranks[i, j])
            and (i, j) not in tried
            and (j, i) not in tried
            and (part := split(i, j, 1)) is not None
        ):
            ranks[i, j] = len(part.values)
    return [ranks[pair] for pair in pairs]


def _noise(matrix: torch.Tensor, dtype: str) -> torch.Tensor:
    """Returns the bound max_i |e_i.| + max_j |e_.j| on the singular values of rounding errors, a float64 number."""
    rows, columns = matrix.shape
    step, kind = precision(matrix, dtype)
    if step is not None:
        squares = step.double().square().expand(rows, 1)
        return (columns * squares.max()).sqrt() + squares.sum().sqrt()
    limits = torch.finfo(kind)
    widest, sums = matrix.new_zeros((), dtype=torch.float64), matrix.new_zeros(columns, dtype=torch.float64)
    for part in matrix.split(max(1, CHUNK // 16 // columns)):
        squares = part.double().square().clamp_(min=limits.smallest_normal**2)
        widest, sums = torch.maximum(widest, squares.sum(dim=1).max()), sums + squares.sum(dim=0)
    return (widest.sqrt() + sums.max().sqrt()) * (limits.eps / 2)


# --- distances from the singular values s_1 >= s_2 >= ... of a difference, without a noise floor ---

ENERGY = 0.9
"""Share of the sum of s_i^2 that defines :func:`energy_rank`."""


def energy_rank(differences: torch.Tensor) -> torch.Tensor:
    """Returns the least r with s_1^2 + ... + s_r^2 >= ENERGY sum_i s_i^2, (p,) float64; 0 for a zero matrix.

    This rank needs no noise floor: rounding adds many singular values and little energy. It is at most the true rank.

    Args:
        differences: (p, rows, columns) float64.
    """
    shares = _energies(differences).cumsum(dim=1)
    return (shares < ENERGY * shares[:, -1:]).sum(dim=1).double() + (shares[:, -1] > 0)


def spectral(differences: torch.Tensor) -> torch.Tensor:
    """Returns the largest singular value s_1, (p,), of (p, rows, columns) float64."""
    return _energies(differences)[:, 0].sqrt()


def _energies(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the squared singular values, (p, smaller side), descending, as the eigenvalues of A A^T.

    This is several times cheaper than singular values. Squaring loses digits of small values only, which hold no energy.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    scale = wide.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    wide = wide / scale  # the squares of tiny differences would underflow
    return torch.linalg.eigvalsh(wide @ wide.mT).flip(1).clamp(min=0) * scale[:, :, 0].square()
