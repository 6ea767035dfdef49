"""Examples to fit on."""

from mothr.baselines.studies.forests.examples import folds

MODELS, TREES = 7, 4
"""Models of a tree, and trees of each of the two data sets."""


def test_an_example_is_a_tree_with_its_true_parents(found):
    assert len(found) == 2 * TREES
    for example in found:
        assert len(example.ids) == MODELS
        assert example.roots.sum() == 1
        assert (example.edges.sum(axis=1) + example.roots == 1).all()
        for child, slots in enumerate(example.edges):
            right = {example.ids[parent] for parent in example.evidence.candidates.parents[child][slots]}
            assert right == set(example.parents[child])


def test_a_model_without_truth_allows_every_parent(found):
    hidden = found[0].ids[3]
    example = found[0].without_truth([hidden])
    assert example.edges[3].all()
    assert example.roots[3]
    assert (example.edges[:3] == found[0].edges[:3]).all()


def test_folds_leave_every_tree_out_once(found):
    left_out = [id(example) for _, outside in folds(found, 3) for example in outside]
    assert sorted(left_out) == sorted(map(id, found))
    for inside, outside in folds(found, 3):
        assert not {id(example) for example in inside} & {id(example) for example in outside}
