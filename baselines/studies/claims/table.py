"""Claims of the MoTHer paper, and questions about it, each tested on given data sets with intervals over Model Trees.

Horwitz, Shul, Hoshen: Unsupervised Model Tree Heritage Recovery, ICLR 2025, arXiv 2405.18432. A *claim* is stated in a text of
the authors. A *question* is not: it follows from the method, or from our measurements. A claim or question that the given data
sets cannot test is skipped, and the output names the data that it requires.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mothr.baselines.studies.ablation import each_warning_once
from mothr.baselines.studies.claims import recovery, roots, triples, weights
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset, open_datasets
from mothr.baselines.studies.measurements import Measurement
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.weights.result_cache import in_memory


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, a question about it, or both in one figure, and how they are measured."""

    title: str
    """Title of its figure."""
    measured: str
    """What is measured."""
    required_data: str
    """The data that the measurement requires, as the end of the sentence "needs ..."."""
    measure: Callable[[OpenedDataset, ClaimSettings], Sequence[Measurement]]
    """Returns the measurements on one data set; none if the data set cannot test the claim."""
    claim: str | None = None
    """What the paper states; None if no text of the authors states anything about it."""
    question: str | None = None
    """What is asked although no text of the authors states it; None if the claim is all."""
    averaged_over: str = "Model Trees"
    """The units that its intervals are over."""
    panels_per_row: int = 3
    """Largest number of panels side by side in the figure."""
    figure_per_family: bool = False
    """Whether each model family has a figure of its own."""
    curves_only: bool = False
    """Whether measures with a single value of x are left out."""

    @property
    def kind(self) -> str:
        """``claim``, ``question``, or ``claim and question``."""
        texts = {"claim": self.claim, "question": self.question}
        return " and ".join(name for name, text in texts.items() if text is not None)

    @property
    def statement(self) -> str:
        """The claim and the question as sentences that name which is which."""
        parts = [f"Claim of the paper: {self.claim}"] if self.claim else []
        return " ".join(
            [*parts, f"Question, which no text of the authors answers: {self.question}"] if self.question else parts
        )


CLAIMS: Mapping[str, Claim] = {
    "1-distance": Claim(
        title="Distance between two models against the edges between them",
        claim="The distance between the weights of two models grows with the number of edges between them.",
        measured="Mean distance by number of edges, and Spearman correlation of the two, for each kind of edges.",
        required_data="a tree of three models or more with different numbers of edges between them, such as vthr-ft",
        measure=weights.distance_by_hops,
    ),
    "2-3-outliers": Claim(
        title="Outliers along training, by layers and initialisation",
        claim="2: Weight outliers grow while a model generalises and shrink while it specialises.",
        question="3: Does the initialisation of the weights change how outliers develop?",
        measured="Summed excess kurtosis along each training, and its Spearman correlation with the optimizer steps.",
        required_data="checkpoints that were kept during training, such as vit-trajectory has",
        measure=weights.outliers_in_training,
        panels_per_row=4,
        figure_per_family=True,
    ),
    "4-lora": Claim(
        title="Rank against RMS distance on models fine-tuned with LoRA",
        claim="For LoRA models, the rank of the difference of two models is the right distance.",
        measured="Edge accuracy of the minimum spanning tree with the true root, and Spearman correlation of distance and number of "
        "edges, for rank and root mean square.",
        required_data="edges of the subtype lora, such as vthr-lora-v has",
        measure=weights.lora_rank_and_rms,
    ),
    "5-motifs": Claim(
        title="Graphs of three models, solved by distance and direction alone",
        claim="Distance and direction score together recover every graph of three models.",
        measured="Share of triples with two true edges that MoTHer's rule recovers from the three models alone.",
        required_data="a model with a grandparent or a sibling, such as vthr-ft has",
        measure=triples.triples_solved,
        figure_per_family=True,
    ),
    "6-clustering": Claim(
        title="Model Trees separated by distance, with some models kept",
        claim="Clustering by distance separates the Model Trees.",
        question="Does it do so if only a few models are kept?",
        measured="Adjusted Rand index of clusterings of random subsets of the models.",
        required_data="two Model Trees or more in one data set, such as vthr-ft has",
        measure=recovery.clustering,
        averaged_over="random subsets of the models (all trees share one clustering)",
    ),
    "7-robustness": Claim(
        title="Edge accuracy with models missing, by direction score, and by the distance of the nearest sibling",
        question="Is recovery robust: to missing models, to near siblings, and to the choice of the direction score?",
        measured="Edge accuracy on random subsets of the models, by direction score, and by distance of the nearest sibling.",
        required_data="a model with a parent, such as vthr-ft has",
        measure=recovery.robustness,
        panels_per_row=2,
        figure_per_family=True,
    ),
    "8-depth": Claim(
        title="Outliers against depth in the tree",
        question="Do weight outliers tell the depth of a model in its tree?",
        measured="Kurtosis by depth, standardised within each tree, and Spearman correlation of the two.",
        required_data="a tree of three models or more and different kurtosis, such as vthr-ft has",
        measure=weights.outliers_by_depth,
    ),
    "9-root": Claim(
        title="Direction scores against the kurtosis and the initialisation of the root",
        question="How does the accuracy of kurtosis depend on the root: on its own kurtosis, its initialisation, and the share of its "
        "initial weights that weight decay has left?",
        measured="Edge accuracy of MoTHer as published with several direction scores, and the share of edges that each score directs "
        "right, by the mean excess kurtosis (Fisher, biased) of the root's square attention output matrices. Trees of LoRA models are "
        "solved with the rank distance and the value projections, as the authors do.",
        required_data="an edge below a root that is in the data set and has square attention output matrices, such as vthr-ft has",
        measure=roots.by_root,
        panels_per_row=2,
        figure_per_family=True,
    ),
    "10-ties": Claim(
        title="Optimal rootings of MoTHer's tree that cost the same",
        question="How many rootings cost the least, and what is the edge accuracy averaged over them?",
        measured="Number of roots whose cheapest tree costs the least, for MoTHer as published with several direction scores; edge "
        "accuracy of the prediction, and its mean over these rootings.",
        required_data="a model with a parent, such as vthr-ft has",
        measure=roots.ties,
        figure_per_family=True,
    ),
    "curves": Claim(
        title="Edge accuracy against how models were made, and against the weight of the direction",
        question="How does the edge accuracy depend on the weight of the direction, and on how the models were made?",
        measured="Edge accuracy against the weight of the direction, LoRA rank, steps, depth, and precision, pruning and noise of copies.",
        required_data="a model with a parent, such as vthr-ft has",
        measure=recovery.curves,
        figure_per_family=True,
        curves_only=True,
    ),
}
"""The claims and questions, by the names of their files."""


def find_claims(names: Sequence[str]) -> dict[str, Claim]:
    """Returns the claims with these names, in the order of :data:`CLAIMS`.

    Raises:
        MothrError: A name is unknown; the error lists the nearest names.
    """
    for name in names:
        if name not in CLAIMS:
            raise unknown_name("claim", name, CLAIMS)
    return {name: CLAIMS[name] for name in CLAIMS if name in names}


def measurements(claim: Claim, opened: Sequence[OpenedDataset], settings: ClaimSettings) -> pd.DataFrame:
    """Returns a row for each :class:`Measurement` of a claim on the data sets; no row if they cannot test the claim."""
    rows = [measurement for data in opened for measurement in claim.measure(data, settings)]
    table = pd.DataFrame(rows, columns=Measurement._fields)
    if claim.curves_only:
        table = table[table.groupby("measure").x.transform("nunique") > 1]
    return table.reset_index(drop=True)


def measure_claims(
    folders: Sequence[Path], claims: Mapping[str, Claim], settings: ClaimSettings
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Returns the :func:`measurements` of each claim that the data sets can test, and a sentence for each that they cannot.

    Raises:
        MothrError: A data set cannot be opened, or the data sets can test none of the claims.
    """
    with in_memory(), each_warning_once():
        opened = open_datasets(folders, settings.layers)
        tables = {name: measurements(claim, opened, settings) for name, claim in claims.items()}
    skipped = {name: f"skipped: needs {claims[name].required_data}" for name, table in tables.items() if table.empty}
    if len(skipped) == len(tables):
        reasons = "; ".join(f"{name} {reason}" for name, reason in skipped.items())
        raise MothrError(f"none of the claims can be tested on these data sets; {reasons}")
    return {name: table for name, table in tables.items() if name not in skipped}, skipped
