"""The forests on which methods are checked: fixed weights of several model families."""

import numpy as np

from mothr.benchmark.run.forests import forests, grow


def test_the_forests_are_the_same_each_time_and_what_their_names_say():
    for forest, again in zip(forests(), forests(), strict=True):
        assert forest.parents == again.parents
        for left, right in zip(forest.weights, again.weights, strict=True):
            assert all(np.array_equal(left[name], right[name]) for name in left)
    families = ("vit.encoder.layer", "model.layers", "down_blocks", "base_model.model.vit")
    names = [name for forest in forests() for weights in forest.weights for name in weights]
    assert [family for family in families if not any(name.startswith(family) for name in names)] == []
    [copies] = [forest for forest in forests() if forest.name == "quantized"]
    large, eights = (
        next(value for value in weights.values() if value.ndim == 2)
        for weights in (copies.weights[1], copies.weights[3])
    )
    scale = next(value for name, value in copies.weights[3].items() if name.endswith("_scale"))
    assert eights.dtype == np.int8
    assert np.allclose(eights * scale, large, atol=scale.max() / 2 + 1e-7)
    updates = grow(np.random.default_rng(0), (None, 0), {"a": (16, 12), "b": (16,)}, rank=2)
    change = {name: updates[1][name] - updates[0][name] for name in "ab"}
    assert np.linalg.matrix_rank(change["a"], tol=1e-4) == 2
    assert not change["b"].any()
