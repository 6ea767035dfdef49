"""Training settings that contradict each other are errors; absent options leave no trace."""

import pytest
from pydantic import ValidationError

from mothr.generators.values.training import Lora, Training, check_heads, check_update

PLAIN = {"steps": 10, "batch_size": 8, "learning_rate": 1e-3}
LORA = Lora(ranks=(2,), targets=("v_proj",))


def test_absent_options_are_not_written():
    assert set(Training(**PLAIN).model_dump(exclude_none=True)) == {
        *PLAIN, "optimizer", "weight_decay", "warmup", "clip",
    }  # fmt: skip
    assert set(LORA.model_dump(exclude_none=True)) == {"ranks", "alpha_over_rank", "targets"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ema": 0.9, "tail_average": 0.5}, "tail_average: ema is given as well"),
        ({"ema": 0.9, "keep_every": 2}, "keep_every: checkpoints are no averages, but ema stores one"),
        ({"tail_average": 0.5, "keep_every": 2}, "but tail_average stores one"),
        ({"ema": 1.0}, "less than 1"),
        ({"tail_average": 0.0}, "greater than 0"),
        ({"label_noise": 1.0}, "less than 1"),
        ({"l2_sp": 0.0}, "greater than 0"),
        ({"head_rate": 0.0}, "greater than 0"),
        ({"optimizer": "adamax"}, "'adamw', 'sgd', 'adam', 'adafactor' or 'sign'"),
        ({"schedule": "cosine"}, "'linear' or 'constant'"),
        ({"trained": "heads"}, "'last-layers', 'alternate-layers' or 'vectors'"),
    ],
)
def test_settings_that_are_impossible_or_contradict_each_other_are_errors(fields, message):
    with pytest.raises(ValidationError, match=message):
        Training(**PLAIN, **fields)


@pytest.mark.parametrize("fields", [{"trained": "last-layers"}, {"l2_sp": 0.1}])
def test_an_update_of_low_rank_has_no_settings_of_dense_weights(fields):
    with pytest.raises(ValueError, match=f"training.{next(iter(fields))}: .* remove {next(iter(fields))} or lora"):
        check_update(Training(**PLAIN, **fields), LORA)
    check_update(Training(**PLAIN, **fields), None)
    check_update(Training(**PLAIN, ema=0.9, label_noise=0.1, head_rate=0.1), LORA)


def test_a_rate_of_heads_needs_a_family_with_heads():
    with pytest.raises(
        ValueError, match=r"training\.head_rate: 0\.1 is a rate of heads, but this family .*; remove it"
    ):
        check_heads(Training(**PLAIN, head_rate=0.1), has_heads=False)
    check_heads(Training(**PLAIN, head_rate=0.1), has_heads=True)
    check_heads(Training(**PLAIN), has_heads=False)
    check_heads(None, has_heads=False)


def test_the_factor_of_an_update_is_alpha_over_the_rank_or_over_its_root():
    assert LORA.factor(16) == 2
    assert Lora(ranks=(16,), targets=("v_proj",), rslora=True).factor(16) == 2 * 16 / 4
