"""The runs that several claims read: MoTHer with every direction score and weight, the two bounds, and Linea."""

import warnings
from dataclasses import replace
from functools import cache

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.studies import ablation
from mothr.baselines.studies.claims.settings import ClaimSettings
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run import evaluate
from mothr.benchmark.run.method import Method
from mothr.benchmark.run.registry import find_method

LAMBDAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Weights of the direction against the distance."""
LAMBDA = MOTHER_V2.lambda_
"""The published weight of the direction, used wherever the weight is not varied."""
OWN = COMPARED_METHOD = "linea"
"""Registered name of the method that is compared with MoTHer."""


def _grid(plan: ClaimSettings, **values: object) -> ablation.AblationGrid:
    base = replace(MOTHER_V2, distance_layers=plan.layers)
    return ablation.AblationGrid(base=base, distances=(plan.distance,), layers=(plan.layers,), **values)  # type: ignore[arg-type]


@cache
def records(known: OpenedDataset, plan: ClaimSettings) -> tuple[RunRecord, ...]:
    """Returns the runs of MoTHer with every direction score and with every weight, the bounds', and those of Linea."""
    others = tuple(weight for weight in LAMBDAS if weight != LAMBDA)
    found = ablation.run(_grid(plan, weights=(LAMBDA,)), known.folder, plan.setting, plan.seeds)
    found += ablation.run(
        _grid(plan, directions=plan.directions, weights=others), known.folder, plan.setting, plan.seeds
    )
    found.append(
        evaluate.run(find_method(OWN), OWN, known.folder, plan.setting, models=known.models, truth=known.truth)
    )
    for record in found:
        _say_failed(record)
    return tuple(found)


def warn_if_failed(record: RunRecord) -> None:
    """Warns that a run failed, and that it counts as zero."""
    if record.status != "ok":
        warnings.warn(
            f"{record.split}: the run of {compared_name(record)} failed and counts as zero: {record.error}",
            MothrWarning,
            stacklevel=3,
        )


_say_failed = warn_if_failed


def compared_name(record: RunRecord) -> str:
    """Returns the name of a run in tables: the direction score of MoTHer, or the name of another method."""
    return str(record.parameters["direction"]) if record.method == ablation.METHOD else record.method


def published_records(data: OpenedDataset, settings: ClaimSettings) -> list[RunRecord]:
    """Returns the records of MoTHer with the published weight of the direction, and those of Linea."""
    return [record for record in records(data, settings) if record.parameters.get("lambda_", LAMBDA) == LAMBDA]


def compared_methods(settings: ClaimSettings) -> dict[str, tuple[Method, str]]:
    """Returns the methods that get a curve: name of the curve -> (method, registered name)."""
    varied = {method.direction: method for method in _grid(settings, directions=settings.directions).methods}
    mother = {name: (varied[name], ablation.METHOD) for name in settings.directions}
    return {**mother, COMPARED_METHOD: (find_method(COMPARED_METHOD), COMPARED_METHOD)}
