"""What storing weights leaves of error, told from the stored numbers themselves: a file may hold more bits than its weights ever had."""

import torch

_STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_STORED |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def precision(matrix: torch.Tensor, dtype: str) -> tuple[torch.Tensor | None, torch.dtype]:
    """Returns the largest rounding error of all or of each row, (1, 1) or (rows, 1), if it is one; and the kind of floats otherwise.

    Args:
        matrix: (rows, columns) values, integers times their scales.
        dtype: How they are stored, in the words of safetensors.
    """
    if dtype not in _STORED:  # integers, times scales where they have some
        if torch.equal(matrix, matrix.round()):
            return matrix.new_full((1, 1), 0.5), matrix.dtype
        largest = _int8_range(matrix, torch.finfo(torch.float32).eps)
        return (matrix.abs().amax().reshape(1, 1) if largest is None else largest) / 254, matrix.dtype
    stored = _STORED[dtype]
    if stored in (torch.float64, torch.float32):
        narrower = [torch.bfloat16, torch.float16] + [torch.float32] * (stored == torch.float64)
        stored = next((kind for kind in narrower if _fits(matrix, kind)), stored)
    largest = _int8_range(matrix, torch.finfo(stored).eps) if matrix.shape[1] > 8 else None
    return None if largest is None else largest / 254, stored


def squared_error(matrix: torch.Tensor, dtype: str) -> float:
    """Returns the squared error, summed over all entries, that even errors up to those of :func:`precision` make."""
    step, kind = precision(matrix, dtype)
    largest = matrix.double() * (torch.finfo(kind).eps / 2) if step is None else step.double().expand_as(matrix)
    return float(largest.square().sum()) / 3


def _fits(matrix: torch.Tensor, kind: torch.dtype) -> bool:
    """Returns whether all entries are numbers of ``kind``; the first row mostly tells that they are not."""
    return all(torch.equal(part.to(kind).to(part.dtype), part) for part in (matrix[:1], matrix))


def _int8_range(matrix: torch.Tensor, eps: float) -> torch.Tensor | None:
    """Returns the largest magnitudes of the rows, (rows, 1), or of all, (1, 1), if all entries are whole 127ths of them; else None."""
    slack = 127 * eps / 2 + 1e-3  # how far from a whole step a rounded product of an integer and a scale may be
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
