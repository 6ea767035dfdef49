"""The metric of relations: whether the prediction names correctly how each model was made."""

from mothr.benchmark.prediction import RELATIONS, Prediction
from mothr.benchmark.score.edges import f1


def relation_f1(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the macro-averaged F1 score of the relations: the mean of F1_r over the relations r that occur.

    F1_r compares the set of nodes with the true relation r and the set of nodes with the predicted relation r.
    Relation r occurs if one of these sets is not empty. The parents are not compared. A true root has no
    relation, so any relation that is predicted for it is wrong. A model with parents whose true relation is
    unknown is left out.

    Range [0, 1], higher is better. The chance level depends on the truth. None if the prediction names no
    relation or the truth has none.
    """
    true, named = truth.relations or {}, predicted.relations or {}
    scored = [node for node, parents in truth.graph.parents.items() if node in true or not parents]
    if not named or not any(node in true for node in scored):
        return None
    scores = []
    for relation in RELATIONS:
        true_nodes, named_nodes = ({node for node in scored if side.get(node) == relation} for side in (true, named))
        if true_nodes or named_nodes:
            scores.append(f1(true_nodes, named_nodes))
    return sum(scores) / len(scores)
