"""The functions of ``import mothr``: load, recover, run, score, compare, tracks, draw, and the list of methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction

if TYPE_CHECKING:
    from mothr.benchmark.board.compare import Comparison
    from mothr.benchmark.board.tracks.standings import TrackBoard
    from mothr.benchmark.records.record import RunRecord, Setting
    from mothr.benchmark.weights.model_set import ModelSet

GraphSource = ModelGraph | Prediction | str | Path
"""A graph, a prediction, or the path of one: a data set, the results folder of a split, or a prediction file."""


def load(folder: str | Path, *, check: bool = True) -> "ModelSet":
    """Opens the models of a data set, or of any folder of models. A weight is read when it is used.

    Args:
        folder: A data set, or a folder in which each sub-folder or each ``.safetensors`` file is one model.
        check: Whether the files of a data set are first compared with the hashes in its manifest.

    Raises:
        MothrError: There is no model, a file is damaged, or a hash differs.
    """
    from mothr.benchmark.data.dataset import open_models

    return open_models(Path(folder), check=check)


def recover(
    folder: str | Path,
    method: str = "linea",
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    workers: int = 1,
    memory: float = 2,
) -> Prediction:
    """Predicts the Model Graph of a folder of models, from weights alone.

    Args:
        folder: A data set, or a folder in which each sub-folder or each ``.safetensors`` file is one model.
        method: A registered name (see :func:`methods`) or ``module:attribute``.
        settings: Field of the method -> value. A nested field has a dotted name: ``inheritance.min_tail_coefficient``.
        seed: Seed of the method's random generator.
        workers: Processes that read and compare weights, with one thread each.
        memory: GiB that comparing weights may take, in all processes together.

    Raises:
        MothrError: The folder or the method cannot be used, or the method is an oracle, which needs the truth.
    """
    from mothr.benchmark.data import dataset
    from mothr.benchmark.run.in_process import predict
    from mothr.benchmark.run.method import needs
    from mothr.benchmark.run.registry import find_method
    from mothr.benchmark.side_information import SideInformation
    from mothr.benchmark.weights.engine import engine

    found = find_method(method, _as_text(settings))
    if "truth" in needs(found):
        raise MothrError(f"method {method!r} is an oracle: it needs the truth, and predict has none; use 'mothr run'")
    models = load(folder)
    metadata = dataset.metadata(Path(folder), models.ids) if "metadata" in needs(found) else None
    with engine(workers, memory):
        return predict(found, models.with_given(SideInformation(metadata=metadata)), seed)


def run(
    method: str,
    dataset: str | Path,
    *,
    setting: "Setting" = "open",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> "RunRecord":
    """Runs a method on a data set with known truth in this process, and returns its scored record.

    Args:
        method: A registered name (see :func:`methods`) or ``module:attribute``.
        dataset: The folder of the data set.
        setting: What the method is given beside the weights: ``known-trees`` or ``open``.
        settings: Field of the method -> value.
        seed: Number of the run. The ids that the method sees, and its random generator, are drawn from it.

    Raises:
        MothrError: The data set has no truth or is damaged, or the method or a field does not exist.
    """
    from mothr.benchmark.data.dataset import open_truth
    from mothr.benchmark.run.execute import execute
    from mothr.benchmark.run.in_process import InProcess
    from mothr.benchmark.run.outcome import RunRequest

    folder = Path(dataset)
    request = RunRequest(method, _as_text(settings), setting, seed)
    [(_, record)] = execute([request], folder, open_truth(folder), InProcess(workers=1))
    return record


def score(prediction: GraphSource, truth: GraphSource) -> dict[str, float | None]:
    """Returns every metric of a prediction against a truth: metric -> value, None where the metric is undefined.

    Args:
        prediction: A graph, a prediction, or the path of a prediction file.
        truth: The true graph, or the path of a data set, of the results folder of its split, or of a prediction file.

    Raises:
        MothrError: The two do not name the same models, or a path cannot be read.
    """
    from mothr.benchmark.score import metrics

    true = _prediction(truth)
    return metrics.score(true, _prediction(prediction).of(true.graph.nodes, "the prediction"))


def compare(first: str, second: str, results: str | Path = "results", *, metric: str = "edge_f1") -> "list[Comparison]":
    """Compares two methods on every split that both were run on: difference over trees, interval, paired test.

    Args:
        first: ``METHOD``, ``METHOD@SETTING``, or either with ``,FIELD=VALUE`` behind it.
        second: The other method, written likewise.
        results: The folder of results.
        metric: A metric of single trees.

    Raises:
        MothrError: There is no such method in these results, or no split on which both were run.
    """
    from mothr.benchmark.board.compare import Choice
    from mothr.benchmark.board.compare import compare as compare_choices

    return compare_choices(Path(results), Choice.parse(first), Choice.parse(second), metric)


def tracks(results: str | Path = "results") -> "list[TrackBoard]":
    """Returns every track in every setting: the scores of all methods with intervals, ranks and tests.

    Args:
        results: The folder of results. If it has no ``tracks.toml``, all its splits are one track.

    Raises:
        MothrError: The folder holds no results, or a record or ``tracks.toml`` is faulty.
    """
    from mothr.benchmark.board.tracks.standings import tracks_of

    return tracks_of(Path(results))


def draw(
    prediction: GraphSource,
    truth: GraphSource | None = None,
    *,
    title: str = "",
    labels: Mapping[NodeId, str] | None = None,
) -> str:
    """Returns an SVG of a graph; with a truth, of the prediction drawn over the true graph.

    Args:
        prediction: A graph, a prediction, or the path of a prediction file.
        truth: The true graph, if it is known.
        title: The heading of the picture.
        labels: Model id -> text below its node.
    """
    from mothr.benchmark.drawing import forest_svg, graph_svg

    shown = _prediction(prediction)
    if truth is None:
        return graph_svg(shown.graph, title or "Model Graph", labels)
    title = title or "Predicted over true Model Graph"
    return forest_svg(_prediction(truth).graph, shown.graph.parents, title, labels, abstained=shown.abstained)


def methods() -> list[dict[str, Any]]:
    """Returns one row for each registered method: name, kind, side information, version, description, fields."""
    from mothr.benchmark.run.description import describe_method
    from mothr.benchmark.run.registry import method_names

    return [describe_method(name) for name in method_names()]


def _prediction(source: GraphSource) -> Prediction:
    """Returns the prediction that ``source`` is or holds."""
    if isinstance(source, Prediction):
        return source
    if isinstance(source, ModelGraph):
        return Prediction(source)
    path = Path(source)
    if path.is_dir():
        from mothr.benchmark.data.dataset import open_truth

        return open_truth(path).prediction
    from mothr.benchmark.records.store import read_prediction

    return read_prediction(path)


def _as_text(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns field values as text, as ``--set`` takes them."""
    from mothr.benchmark.run.settings import as_text

    return {name: value if isinstance(value, str) else as_text(value) for name, value in (settings or {}).items()}
