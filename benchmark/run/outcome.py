"""A run: the request, the outcome, the scores, and the record made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.provenance import environment
from mothr.benchmark.records.record import RunRecord, Setting, Status, kind_of_run
from mothr.benchmark.run.method import About
from mothr.benchmark.score import metrics
from mothr.benchmark.side_information import GivenName

if TYPE_CHECKING:
    from mothr.benchmark.data.dataset import Truth  # imports torch, which the leaderboard does without


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run that is to be made."""

    method: str
    """A registered name or ``module:attribute``."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Dotted path of a field -> value as text, as ``--set`` takes them."""
    setting: Setting = "open"
    """What every method is given: the partition into trees, or nothing."""
    seed: int = 0
    """Number of the run. The ids that the method sees, and its random generator, are drawn from it."""

    @property
    def fields(self) -> str:
        """The settings as they are written behind ``--set``."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The result of one run, before it is scored."""

    about: About
    """What the method declares about itself."""
    given: tuple[GivenName, ...]
    """Names of the side information that the method was given, sorted."""
    prediction: Prediction | None
    """The prediction in the ids of the data set; None if the run failed."""
    error: str | None
    """Why the run failed; None if it is ok."""
    seconds: float
    """Wall-clock time of the method, in seconds."""
    status: Status
    """How the run ended."""
    device: str
    """The device that features are computed on, as torch names it: ``cpu`` or ``cuda``."""
    peak_bytes: int | None = None
    """Largest resident memory of the method's process, in bytes; None if it had no process of its own."""
    isolation: Literal["sandbox", "process"] | None = None
    """How the method was isolated, see :class:`mothr.benchmark.records.record.RunRecord`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one prediction."""

    whole: Mapping[str, float | None]
    """Metric -> value on the whole Model Graph; None where the metric is undefined."""
    trees: tuple[Mapping[str, float | None], ...]
    """The same for each true Model Tree, in the order of ``truth.graph.trees``, with its label under ``tree``; see
    :meth:`mothr.benchmark.graph.ModelGraph.tree_labels`."""


def score(prediction: Prediction, truth: "Truth") -> Scores:
    """Returns every metric of ``prediction`` against ``truth``.

    Raises:
        MothrError: the prediction leaves out a model of the truth, or names another model.
    """
    true, prediction = truth.prediction, prediction.of(truth.nodes, "the prediction")
    labels = truth.graph.tree_labels({node: known.tree for node, known in truth.nodes.items()})
    rows = zip(labels, metrics.per_tree(true, prediction), strict=True)
    return Scores(metrics.score(true, prediction), tuple({**row, "tree": label} for label, row in rows))


def record_of(request: RunRequest, outcome: RunOutcome, truth: "Truth", manifest_sha256: str) -> RunRecord:
    """Returns the record of a run, scored against ``truth``.

    Args:
        request: what was run.
        outcome: its result.
        truth: the truth of the data set.
        manifest_sha256: SHA-256 of the data set's manifest, in hex.
    """
    scores = score(outcome.prediction, truth) if outcome.prediction else Scores({}, ())
    parts = outcome.prediction.to_json() if outcome.prediction else {}
    return RunRecord(
        split=truth.split,
        split_version=truth.version,
        manifest_sha256=manifest_sha256,
        setting=request.setting,
        method=request.method,
        method_version=outcome.about.version,
        kind=kind_of_run(outcome.about.kind, outcome.given),
        tuned_on=list(outcome.about.tuned_on),
        parameters=dict(outcome.about.parameters),
        seed=request.seed,
        given=list(outcome.given),
        status=outcome.status,
        error=outcome.error,
        parents=parts.get("parents"),
        confidence=parts.get("confidence"),
        trees=parts.get("trees"),
        abstained=parts.get("abstained"),
        relations=parts.get("relations"),
        metrics=dict(scores.whole),
        per_tree=[dict(row) for row in scores.trees],
        seconds=round(outcome.seconds, 3),
        peak_bytes=outcome.peak_bytes,
        isolation=outcome.isolation,
        **environment(outcome.device),
    )
