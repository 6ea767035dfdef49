"""Scores submissions: turns them into run records.

This module alone decides on the truth, the metrics and the name that a submission is scored with. Submitted
predictions are *self-run*: nobody else has seen how they were made. A submitted method is run here, on the weights that
the manifest lists. Its records are *verified*.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.exchange.submission import Submission
from mothr.benchmark.exchange.submission_check import (
    SubmittedPrediction,
    check_conduct,
    check_folder,
    is_withheld,
    split_folders,
)
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord, Setting
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.isolation import Isolated
from mothr.benchmark.run.method import About
from mothr.benchmark.run.outcome import RunOutcome, RunRequest, record_of
from mothr.benchmark.storage import sha256_of

WITHHELD = "the labels are withheld; name their folder with --labels"
UNSTABLE_FIELDS = ("device", "mothr_version", "commit", "dirty", "packages", "date")
"""Fields of a record that may differ each time the same prediction is scored."""

Records = Mapping[str, RunRecord]
"""Run id -> record."""


@dataclass(frozen=True, slots=True)
class SubmissionRow:
    """The result of scoring one submission on one split and setting, or the fate of the whole submission."""

    submission: str
    """The folder of the submission."""
    board: str
    """The split and the setting; empty if the row is about the whole submission."""
    status: Literal["scored", "unchanged", "removed", "not scored", "FAILED"]
    """``not scored``: something is missing here. ``FAILED``: the submission is faulty."""
    text: str
    """The edge F1, or the remedy."""


@dataclass(frozen=True)
class ScoringInputs:
    """The folders that scoring reads, and the number of runs."""

    results: Path
    """The results folder, with the manifests and truths of the splits, and the submissions."""
    data: Path
    """The folder of the splits' weights, at ``<split>``. Methods are run on the splits that are there."""
    labels: Path | None = None
    """The folder of the labels of hidden splits, at ``<split>-v<k>``, as ``mothr generate --labels`` wrote them."""
    seeds: int = 1
    """The number of runs of a method on each split and setting."""

    @cached_property
    def splits(self) -> dict[str, Path]:
        """Split, as ``<split>-v<k>``, -> its results folder."""
        return split_folders(self.results)

    def truth(self, split: str) -> dataset.Truth | None:
        """Returns the truth of a split; None if it is withheld and its labels are not here.

        Raises:
            MothrError: the labels are of another split, or their hash differs from the published one.
        """
        folder, labels = self.splits[split], None
        if is_withheld(folder):
            if self.labels is None or not (self.labels / split).is_dir():
                return None
            labels = self.labels / split
        truth = dataset.open_truth(folder, labels)
        if store.folder_name(truth.split, truth.version) != split:
            raise MothrError(
                f"{labels or folder}: holds the truth of {truth.split}, version {truth.version}, and not of {split}; "
                "put the right one there"
            )
        return truth


def score_submissions(inputs: ScoringInputs) -> list[SubmissionRow]:
    """Scores every submission: writes its records, and removes records whose submission is gone.

    Raises:
        MothrError: there is no folder of submissions, or a record in the results is faulty.
    """
    folder = inputs.results / store.SUBMISSIONS
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder, so nothing has been submitted; 'mothr submit' makes it")
    records = store.read_all(inputs.results)
    foreign = {record.run_id for record in records if record.submission is None}
    present: dict[str, dict[str, RunRecord]] = {}
    for record in records:
        if record.submission is not None:
            present.setdefault(record.submission, {})[record.run_id] = record
    folders = {path.name for path in folder.iterdir() if path.is_symlink() or path.is_dir()}
    names = sorted(name for name in folders | present.keys() if not name.startswith("."))  # a dot: being written
    return [row for name in names for row in _score(folder / name, present.get(name, {}), foreign, inputs)]


def _score(folder: Path, present: Records, foreign: set[str], inputs: ScoringInputs) -> Iterator[SubmissionRow]:
    """Yields the rows of one submission. A faulty submission keeps its present records.

    Args:
        folder: the folder of the submission, which may be gone.
        present: the records that it has.
        foreign: ids of the records that no submission may replace.
        inputs: what scoring reads.
    """
    kept: set[str] = set()
    for item in _records(folder, present, inputs) if folder.is_symlink() or folder.exists() else ():
        if isinstance(item, SubmissionRow):
            yield item
            if item.status == "FAILED":
                return
        else:
            kept.add(item.run_id)
            yield _write(item, present, foreign, inputs.results)
    gone = [record for run_id, record in present.items() if run_id not in kept]
    store.remove(gone, inputs.results)
    yield from (SubmissionRow(folder.name, _board(record), "removed", "it is submitted no more") for record in gone)


def _records(folder: Path, present: Records, inputs: ScoringInputs) -> Iterator[RunRecord | SubmissionRow]:
    """Yields the records of the submission in ``folder``, old and new, or rows that say why there is none."""
    if folder.is_symlink():
        yield SubmissionRow(folder.name, "", "FAILED", "is a link; put the folder itself there")
        return
    checked = check_folder(folder, inputs.results, conduct=False)
    problems = _problems(checked.findings)
    if checked.submission and checked.submission.name != folder.name:
        problems.append(f"its 'name' is {checked.submission.name!r}; give the folder the name of the submission")
    if problems or checked.submission is None:
        yield SubmissionRow(folder.name, "", "FAILED", "; ".join(problems))
    elif checked.submission.method is None:
        yield from _score_predictions(checked.submission, checked.predictions, present, inputs)
    else:
        with Isolated() as executor:
            yield from _score_method(checked.submission, present, inputs, executor)


def _problems(findings: Iterable[Finding]) -> list[str]:
    return [f"{finding.rule}: {finding.text}" for finding in findings if finding.status != "ok"]


def _score_predictions(
    submission: Submission, predictions: Iterable[SubmittedPrediction], present: Records, inputs: ScoringInputs
) -> Iterator[RunRecord | SubmissionRow]:
    """Yields a self-run record for each prediction whose truth is here."""
    about = About(submission.version, tuple(submission.tuned_on), {}, frozenset())
    for submitted in predictions:
        truth = inputs.truth(submitted.split)
        if truth is None:
            board = f"{submitted.split}, {submitted.setting}"
            same = [
                record
                for record in present.values()
                if _board(record) == board and record.prediction() == submitted.prediction
            ]
            yield same[0] if same else SubmissionRow(submission.name, board, "not scored", WITHHELD)
            continue
        given = tuple(submission.given_in(submitted.setting))
        outcome = RunOutcome(about, given, submitted.prediction, None, 0.0, "ok", device="unknown")
        request = RunRequest(submission.name, setting=submitted.setting)
        record = record_of(request, outcome, truth, sha256_of(inputs.splits[submitted.split] / dataset.MANIFEST))
        unknown: dict[str, Any] = {"seconds": None, "packages": {}}  # those of the machine that made the prediction
        yield record.model_copy(update=unknown | {"submission": submission.name, "verified": False})


def _score_method(
    submission: Submission, present: Records, inputs: ScoringInputs, executor: Isolated
) -> Iterator[RunRecord | SubmissionRow]:
    """Yields a verified record for each run of a method. A run of this version on these weights is not repeated."""
    valid = [record for record in present.values() if _is_current(record, submission)]
    done = {(record.manifest_sha256, record.setting, record.seed): record for record in valid}
    yield from (record for record in valid if record.seed >= inputs.seeds)
    checked = False
    for (split, folder), setting in product(inputs.splits.items(), submission.settings):
        if setting == "known-trees" and is_withheld(folder):  # records are public, and would publish the trees
            continue
        manifest_sha256 = sha256_of(folder / dataset.MANIFEST)
        runs = {seed: done.get((manifest_sha256, setting, seed)) for seed in range(inputs.seeds)}
        yield from (record for record in runs.values() if record)
        if all(runs.values()):
            continue
        data, truth = inputs.data / dataset.open_manifest(folder).name, inputs.truth(split)
        missing = _missing(data, truth, manifest_sha256, split)
        if missing or truth is None:
            yield SubmissionRow(submission.name, f"{split}, {setting}", "not scored", missing or WITHHELD)
            continue
        problems = [] if checked else _problems(check_conduct(submission, executor))
        checked = True
        if problems:
            yield SubmissionRow(submission.name, "", "FAILED", "; ".join(problems))
            return
        seeds = [seed for seed, record in runs.items() if record is None]
        yield from _run(submission, data, truth, setting, seeds, executor)


def _missing(data: Path, truth: dataset.Truth | None, manifest_sha256: str, split: str) -> str | None:
    """Returns why a method cannot be run and scored on a split here; None if it can."""
    if truth is None:
        return WITHHELD
    if not (data / dataset.MANIFEST).is_file():
        return f"no weights at {data}; make them with 'mothr generate'"
    if sha256_of(data / dataset.MANIFEST) != manifest_sha256:
        return f"{data} holds other weights than {split}; make them again with 'mothr generate'"
    return None


def _is_current(record: RunRecord, submission: Submission) -> bool:
    """Returns whether a record was made by the method that ``submission`` names now."""
    recorded = (record.method_version, record.given, record.tuned_on)
    current = (submission.version, submission.given_in(record.setting), submission.tuned_on)
    return record.verified and record.setting in submission.settings and recorded == current


def _run(
    submission: Submission, data: Path, truth: dataset.Truth, setting: Setting, seeds: list[int], executor: Isolated
) -> Iterator[RunRecord]:
    """Yields the verified records of a submitted method on the data set in ``data``, one for each seed."""
    assert submission.method
    requests = [RunRequest(submission.method, {}, setting, seed) for seed in seeds]
    fields = {
        "method": submission.name,
        "submission": submission.name,
        "verified": True,
        "tuned_on": submission.tuned_on,
    }
    for _, record in execute(requests, data, truth, executor):
        yield record.model_copy(update=fields)


def _write(record: RunRecord, present: Records, foreign: set[str], results_folder: Path) -> SubmissionRow:
    """Writes a record unless it is there already, or would replace one that is not the submission's own."""
    name, board, f1 = record.submission or "", _board(record), record.metrics.get("edge_f1")
    score = record.error or ("edge F1 is undefined" if f1 is None else f"edge F1 {f1:.3f}")
    text = f"{'verified' if record.verified else 'self-run'}: {score}"
    old = present.get(record.run_id)
    if old is not None and _stable_fields(old) == _stable_fields(record):
        return SubmissionRow(name, board, "unchanged", text)
    if record.run_id in foreign:
        return SubmissionRow(
            name,
            board,
            "FAILED",
            f"{record.run_id} is a record of 'mothr run', which no submission replaces; choose another name",
        )
    store.write(record, results_folder)
    return SubmissionRow(name, board, "scored", text)


def _stable_fields(record: RunRecord) -> dict[str, Any]:
    return record.model_dump(exclude=set(UNSTABLE_FIELDS))


def _board(record: RunRecord) -> str:
    """Returns the split and the setting of a record, as in :attr:`SubmissionRow.board`."""
    return f"{store.folder_name(record.split, record.split_version)}, {record.setting}"
