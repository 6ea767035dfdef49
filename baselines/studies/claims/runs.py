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
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import settings_from

PUBLISHED_LAMBDA = MOTHER_V2.lambda_
"""The published weight of the direction, used wherever the weight is not varied."""
COMPARED_METHOD = "linea"
"""Registered name of the method that is compared with MoTHer."""


def _grid(settings: ClaimSettings, **values: object) -> ablation.AblationGrid:
    base = replace(MOTHER_V2, distance_layers=settings.layers)
    fixed: dict[str, object] = {"base": base, "distances": (settings.distance,), "layers": (settings.layers,)}
    return ablation.AblationGrid(**fixed, **values)  # type: ignore[arg-type]


@cache
def records(data: OpenedDataset, settings: ClaimSettings) -> tuple[RunRecord, ...]:
    """Returns the records of MoTHer with every direction score and with every weight, of the bounds, and of Linea."""
    other_lambdas = tuple(weight for weight in settings.lambdas if weight != PUBLISHED_LAMBDA)
    grids = [_grid(settings, weights=(PUBLISHED_LAMBDA,))]
    if other_lambdas:
        grids.append(_grid(settings, directions=settings.directions, weights=other_lambdas))
    runs = [record for grid in grids for record in ablation.run(grid, data.folder, settings.setting, settings.seeds)]
    runs += data.run([RunRequest(COMPARED_METHOD, setting=settings.setting)])
    for record in runs:
        warn_if_failed(record)
    return tuple(runs)


def warn_if_failed(record: RunRecord) -> None:
    """Warns if a run failed: it counts as zero."""
    if record.status != "ok":
        warnings.warn(
            f"{record.split}: the run of {compared_name(record)} failed and counts as zero: {record.error}",
            MothrWarning,
            stacklevel=3,
        )


def compared_name(record: RunRecord) -> str:
    """Returns the name of a run in tables: the direction score of MoTHer, or the name of another method."""
    return str(record.parameters["direction"]) if record.method == ablation.METHOD else record.method


def published_records(data: OpenedDataset, settings: ClaimSettings) -> list[RunRecord]:
    """Returns the records of MoTHer with the published weight of the direction, and that of Linea."""
    return [
        record
        for record in records(data, settings)
        if record.parameters.get("lambda_", PUBLISHED_LAMBDA) == PUBLISHED_LAMBDA
    ]


def compared_requests(settings: ClaimSettings) -> dict[str, RunRequest]:
    """Returns the methods that get a curve, as requests with seed 0: name of the curve -> request."""
    grid = _grid(settings, directions=settings.directions)
    mother = {
        method.direction: RunRequest(ablation.METHOD, settings_from(method, ablation.METHOD), settings.setting)
        for method in grid.methods
    }
    linea = RunRequest(COMPARED_METHOD, setting=settings.setting)
    return {**{name: mother[name] for name in settings.directions}, COMPARED_METHOD: linea}
