"""Scores what was sent in: the one place where submissions become result records.

A submission brings predictions, or names a method; which truth it is scored against, by which metrics, under which name and where the
record goes is decided here. Predictions sent in are *self-run*: nobody else has seen how they came about. A method that is run here, on
the very weights that the manifest names, is *verified*.
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
from mothr.benchmark.exchange.submission_check import Answer, check_folder, conduct_of, splits, withheld
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord, Setting
from mothr.benchmark.run import evaluate
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.isolation import Runner, offered
from mothr.benchmark.run.method import About
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.storage import sha256_of

FOLDER = "submissions"
WITHHELD = "the labels are withheld; say with --labels where they are"
MADE_BY = ("device", "mothr_version", "commit", "dirty", "packages", "date")
"""Fields of a record that change from one scoring to the next."""


@dataclass(frozen=True)
class SubmissionRow:
    """What was done with one submission on one board, or with all of it."""

    submission: str
    """Its folder."""
    board: str
    """Split and setting; empty where it is about all of them."""
    status: Literal["scored", "unchanged", "removed", "not scored", "FAILED"]
    """``not scored`` where something is missing here, ``FAILED`` where something is wrong with the submission."""
    text: str
    """The edge F1, or what to do."""


@dataclass(frozen=True)
class ScoringInputs:
    """What the scorer has at hand."""

    results: Path
    """The folder of results, with the manifests and truths of the splits, and the submissions."""
    data: Path
    """Holds the splits' weights, at ``<split>``: methods are run on those that are there."""
    labels: Path | None = None
    """Holds what ``mothr generate --labels`` wrote for each hidden split, at ``<split>-v<k>``."""
    seeds: int = 1
    """Runs of a method on each board."""

    @cached_property
    def splits(self) -> dict[str, Path]:
        """The folder of results of each split."""
        return splits(self.results)

    def truth(self, split: str) -> dataset.Truth | None:
        """Returns the truth of a split, None where it is withheld and not at hand.

        Raises:
            MothrError: it is that of another split, or not what was committed to.
        """
        folder, labels = self.splits[split], None
        if withheld(folder):
            if self.labels is None or not (self.labels / split).is_dir():
                return None
            labels = self.labels / split
        truth = dataset.open_truth(folder, labels)
        if store.folder_name(truth.split, truth.version) != split:
            where = f"{labels or folder}: holds the truth of {truth.split}, version {truth.version}"
            raise MothrError(f"{where}, and not of {split}; put the right one there")
        return truth


def score_submissions(means: ScoringInputs) -> list[SubmissionRow]:
    """Returns what was done with each submission; writes their records, and removes those of which there is no submission any more.

    Raises:
        MothrError: there are no submissions, or the results are faulty.
    """
    home = means.results / FOLDER
    if not home.is_dir():
        raise MothrError(f"{home}: no such folder, so nothing has been submitted; 'mothr submit' makes it")
    before: dict[str, dict[str, RunRecord]] = {}
    for record in store.read_all(means.results):
        if record.submission is not None:
            before.setdefault(record.submission, {})[record.run_id] = record
    there = {path.name for path in home.iterdir() if path.is_symlink() or path.is_dir()}
    names = sorted(name for name in there | before.keys() if not name.startswith("."))  # a dot: half written
    return [line for name in names for line in _scored(home / name, before.get(name, {}), means)]


def _scored(place: Path, own: Mapping[str, RunRecord], means: ScoringInputs) -> Iterator[SubmissionRow]:
    """Yields what is done with the submission at ``place``, whose records were ``own``. A faulty one keeps those it had."""
    kept: set[str] = set()
    for one in _records(place, own, means) if place.is_symlink() or place.exists() else ():
        if isinstance(one, SubmissionRow):
            yield one
            if one.status == "FAILED":
                return
        else:
            kept.add(one.run_id)
            yield _put(one, own, means.results)
    for file in sorted(own.keys() - kept):
        (means.results / store.folder_name(own[file].split, own[file].split_version) / file).unlink(missing_ok=True)
        yield SubmissionRow(place.name, _board(own[file]), "removed", "nothing that was submitted gives it any more")


def _records(
    place: Path, own: Mapping[str, RunRecord], means: ScoringInputs
) -> Iterator[RunRecord | SubmissionRow]:
    """Yields each record that the submission at ``place`` has or gets, or why it gets none."""
    if place.is_symlink():
        yield SubmissionRow(place.name, "", "FAILED", "is a link; put the folder itself there")
        return
    checked = check_folder(place, means.results, conduct=False)
    wrong = _wrong(checked.findings)
    if checked.submission and checked.submission.name != place.name:
        wrong.append(f"calls itself {checked.submission.name!r}; give the folder the name of the submission")
    if wrong or checked.submission is None:
        yield SubmissionRow(place.name, "", "FAILED", "; ".join(wrong))
    elif checked.submission.method is None:
        yield from _of_predictions(checked.submission, checked.answers, own, means)
    else:
        with Runner() as runner:
            yield from _of_method(checked.submission, own, means, runner)


def _wrong(findings: Iterable[Finding]) -> list[str]:
    return [f"{finding.rule}: {finding.text}" for finding in findings if finding.status != "ok"]


def _of_predictions(
    submission: Submission, answers: Iterable[Answer], own: Mapping[str, RunRecord], means: ScoringInputs
) -> Iterator[RunRecord | SubmissionRow]:
    """Yields a self-run record for each prediction that can be scored here."""
    said = About(submission.version, tuple(submission.tuned_on), {}, frozenset())
    for answer in answers:
        truth = means.truth(answer.split)
        if truth is None:
            board = f"{answer.split}, {answer.setting}"
            old = [
                record
                for record in own.values()
                if _board(record) == board and record.prediction() == answer.prediction
            ]
            yield old[0] if old else SubmissionRow(submission.name, board, "not scored", WITHHELD)
            continue
        outcome = evaluate.RunOutcome(answer.prediction, None, 0.0, "ok")
        record = evaluate.record(
            submission.name, said, SideInformation(), outcome, means.splits[answer.split], truth, answer.setting, 0
        )
        # in what time, on what and by which packages it was made is not known here
        unknown: dict[str, Any] = {
            "given": submission.given_in(answer.setting),
            "seconds": None,
            "device": "not said",
            "packages": {},
        }
        yield record.model_copy(update=unknown | {"submission": submission.name, "verified": False})


def _of_method(
    submission: Submission, own: Mapping[str, RunRecord], means: ScoringInputs, runner: Runner
) -> Iterator[RunRecord | SubmissionRow]:
    """Yields a verified record for each run of a method; a run of this version on these weights is not repeated."""
    old = {}
    for record in own.values():
        if _still_so(record, submission):
            old[record.split, record.split_version, record.manifest_sha256, record.setting, record.seed] = record
    yield from (record for record in old.values() if record.seed >= means.seeds)
    checked = False
    for (split, folder), setting in product(means.splits.items(), submission.settings):
        if setting == "known-trees" and withheld(folder):  # the answer would tell them, and all results are public
            continue
        manifest, sha256 = dataset.open_manifest(folder), sha256_of(folder / dataset.MANIFEST)
        runs = {seed: old.get((manifest.name, manifest.version, sha256, setting, seed)) for seed in range(means.seeds)}
        yield from (record for record in runs.values() if record)
        if all(runs.values()):
            continue
        place, truth = means.data / manifest.name, means.truth(split)
        if truth is None:
            yield SubmissionRow(submission.name, f"{split}, {setting}", "not scored", WITHHELD)
        elif not (place / dataset.MANIFEST).is_file():
            yield SubmissionRow(
                submission.name,
                f"{split}, {setting}",
                "not scored",
                f"no weights at {place}; make them with 'mothr generate'",
            )
        elif sha256_of(place / dataset.MANIFEST) != sha256:
            yield SubmissionRow(
                submission.name, f"{split}, {setting}", "not scored", f"{place} holds other weights than {split}"
            )
        else:
            wrong = [] if checked else _wrong(conduct_of(submission, runner))
            checked = True
            if wrong:
                yield SubmissionRow(submission.name, "", "FAILED", "; ".join(wrong))
                return
            yield from (
                _run(submission, place, truth, setting, seed, runner) for seed, record in runs.items() if record is None
            )


def _still_so(record: RunRecord, submission: Submission) -> bool:
    """Returns whether a record is one of what ``submission`` names now."""
    described = (record.method_version, record.given, record.tuned_on)
    now = (submission.version, submission.given_in(record.setting), submission.tuned_on)
    return record.verified and record.setting in submission.settings and described == now


def _run(
    submission: Submission, place: Path, truth: dataset.Truth, setting: Setting, seed: int, runner: Runner
) -> RunRecord:
    """Returns the verified record of one run of a submitted method, in a process of its own."""
    assert submission.method
    with offered(place, dataset.open_models(place), seed) as given:
        record = runner.run(submission.method, {}, given, setting, truth)
    named = {
        "method": submission.name,
        "submission": submission.name,
        "verified": True,
        "tuned_on": submission.tuned_on,
    }
    return record.model_copy(update=named)


def _put(record: RunRecord, own: Mapping[str, RunRecord], results_folder: Path) -> SubmissionRow:
    """Writes a record unless it is there already; never over one that is not the submission's own."""
    name, board, f1 = record.submission or "", _board(record), record.metrics.get("edge_f1")
    scored = record.error or ("edge F1 is undefined" if f1 is None else f"edge F1 {f1:.3f}")
    text = f"{'verified' if record.verified else 'self-run'}: {scored}"
    old = own.get(record.run_id)
    if old is not None and old.model_dump(exclude=set(MADE_BY)) == record.model_dump(exclude=set(MADE_BY)):
        return SubmissionRow(name, board, "unchanged", text)
    path = results_folder / store.folder_name(record.split, record.split_version) / record.run_id
    if old is None and path.exists():
        return SubmissionRow(
            name,
            board,
            "FAILED",
            f"{path.name} is a record of 'mothr run', which no submission replaces; choose another name",
        )
    store.write(record, results_folder)
    return SubmissionRow(name, board, "scored", text)


def _board(record: RunRecord) -> str:
    return f"{store.folder_name(record.split, record.split_version)}, {record.setting}"
