"""The rounding error of stored weights, from the stored numbers themselves.

A file may use more bits than its weights ever had: weights that were rounded to 16 bits are often written as float32.
"""

import torch

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def precision(matrix: torch.Tensor, dtype: str) -> tuple[torch.Tensor | None, torch.dtype]:
    """Returns the precision of a stored matrix: its largest rounding error if weights lie on a grid, and its floating type.

    Args:
        matrix: (rows, columns) values; integers are multiplied by their scales.
        dtype: The stored type, in the words of safetensors.

    Returns:
        (step, kind). ``step`` is half the distance of grid points, (1, 1) for all rows or (rows, 1) for each row, if the
        weights are integers times scales. Otherwise it is None, and weights are rounded to floats of type ``kind``.
    """
    if dtype not in _DTYPES:  # integers, perhaps with scales
        if torch.equal(matrix, matrix.round()):
            return matrix.new_full((1, 1), 0.5), matrix.dtype
        largest = _int8_range(matrix, torch.finfo(torch.float32).eps)
        return (matrix.abs().amax().reshape(1, 1) if largest is None else largest) / 254, matrix.dtype
    stored = _DTYPES[dtype]
    if stored in (torch.float64, torch.float32):
        narrower = [torch.bfloat16, torch.float16] + [torch.float32] * (stored == torch.float64)
        stored = next((kind for kind in narrower if _fits(matrix, kind)), stored)
    largest = _int8_range(matrix, torch.finfo(stored).eps) if matrix.shape[1] > 8 else None
    return None if largest is None else largest / 254, stored


def squared_error(matrix: torch.Tensor, dtype: str) -> float:
    """Returns the expected squared rounding error, summed over all entries: d^2 / 3 for errors uniform in [-d, d]."""
    step, kind = precision(matrix, dtype)
    largest = matrix.double() * (torch.finfo(kind).eps / 2) if step is None else step.double().expand_as(matrix)
    return float(largest.square().sum()) / 3


def _fits(matrix: torch.Tensor, kind: torch.dtype) -> bool:
    """Returns whether all entries are numbers of type ``kind``. The first row is tested first; it is usually enough to say no."""
    return all(torch.equal(part.to(kind).to(part.dtype), part) for part in (matrix[:1], matrix))


def _int8_range(matrix: torch.Tensor, eps: float) -> torch.Tensor | None:
    """Returns the largest magnitude of each row, (rows, 1), or of all, (1, 1), if all entries are multiples of its 127th part.

    ``eps`` is that of the stored type. The result is None if the entries are no such multiples.
    """
    slack = 127 * eps / 2 + 1e-3  # a rounded product of an integer and a scale may be so far from a whole step
    if slack >= 0.25:
        return None
    largest = torch.maximum(matrix.amax(dim=1, keepdim=True), -matrix.amin(dim=1, keepdim=True))
    for scales in (largest, largest.amax(dim=0, keepdim=True)):
        divisors = scales.clamp(min=torch.finfo(matrix.dtype).tiny)
        if all(_whole(127 * (matrix[:rows] / divisors[:rows]), slack) for rows in (1, len(matrix))):
            return scales
    return None


def _whole(steps: torch.Tensor, slack: float) -> bool:
    return bool(((steps - steps.round()).abs() < slack).all())
