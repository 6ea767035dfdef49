"""Features kept in memory are read-only: each method predicts the same with them and without them."""

import numpy as np
import pytest

from mothr.benchmark.run.method import needs
from mothr.benchmark.run.registry import find_method, own_method_names
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.result_cache import in_memory

NAMES = [name for name in own_method_names() if not needs(find_method(name)) & {"truth", "metadata"}]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_predicts_the_same_with_features_kept_in_memory(grown, contents, write_models, name):
    models, truth = grown()
    held = contents(models)
    copied = truth.edges[-1][1]
    models = write_models({**held, "copy": {key: value.half() for key, value in held[copied].items()}})
    given = models.with_given(
        SideInformation(tree_count=1) if "tree_count" in needs(find_method(name)) else SideInformation()
    )
    outside = find_method(name)(given, np.random.default_rng(0))
    with in_memory():
        assert find_method(name)(given, np.random.default_rng(0)) == outside
        assert find_method(name)(given, np.random.default_rng(0)) == outside  # now all features are kept
