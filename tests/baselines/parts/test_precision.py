import pytest
import torch

from mothr.baselines.parts.precision import precision, squared_error

WEIGHTS = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "dtype"), [(torch.float32, "F32"), (torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_the_floating_type_follows_from_the_numbers_whatever_the_file_type(kind, dtype):
    rounded = WEIGHTS.to(kind).float()
    assert precision(rounded, dtype) == precision(rounded, "F32") == (None, kind)


@pytest.mark.parametrize("axes", [1, (0, 1)])
def test_integers_times_scales_have_half_a_step_of_error(axes):
    scale = WEIGHTS.abs().amax(axes, keepdim=True) / 127
    step, _ = precision((WEIGHTS / scale).round() * scale, "F32")
    assert step is not None
    torch.testing.assert_close(step, scale / 2)


@pytest.mark.parametrize(("kind", "dtype"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_the_squared_error_is_that_of_rounding_within_a_factor_of_two(kind, dtype):
    true = float((WEIGHTS.to(kind).double() - WEIGHTS.double()).square().sum())
    assert true < squared_error(WEIGHTS.to(kind).float(), dtype) < 2.5 * true


def test_the_squared_error_of_eight_bits_is_that_of_rounding():
    scale = WEIGHTS.abs().amax(1, keepdim=True) / 127
    rounded = (WEIGHTS / scale).round() * scale
    assert squared_error(rounded, "F32") == pytest.approx(float((rounded - WEIGHTS).square().sum()), rel=0.1)
