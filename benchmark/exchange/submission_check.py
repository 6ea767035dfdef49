"""Checks a submission before it is sent in. The check needs the splits' manifests, but no network, weights or truth."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.exchange.submission import DESCRIPTION, PREDICTION, Submission, contents_of, parse
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import Setting
from mothr.benchmark.records.superseded import later_version
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.isolation import Isolated
from mothr.benchmark.run.method import about
from mothr.benchmark.run.plan import SETTINGS
from mothr.benchmark.run.registry import find_method, method_names
from mothr.benchmark.storage import parse_json


@dataclass(frozen=True, slots=True)
class SubmittedPrediction:
    """One prediction of a submission."""

    split: str
    """The split, as ``<split>-v<k>``."""
    setting: Setting
    """The setting that it is submitted for."""
    prediction: Prediction
    """The prediction, which names exactly the models of the split."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking a submission."""

    findings: tuple[Finding, ...]
    """One for each file and rule that was checked, and one for each fault."""
    contents: Mapping[str, bytes]
    """File name -> the bytes that were checked."""
    submission: Submission | None
    """The description; None if it is faulty."""
    predictions: tuple[SubmittedPrediction, ...]
    """The predictions without a fault."""


def check(source: str, results_folder: Path, **fields: Any) -> Checked:
    """Returns all faults of a submission. A method that it names is tried on tiny Model Graphs.

    Args:
        source: the folder of the submission, or the name of a method, whose description is made from its declaration.
        results_folder: the folder that holds the splits' manifests, at ``<split>-v<k>/manifest.json``.
        fields: further fields of a method's description: ``name``, ``authors``, ``code``.

    Raises:
        MothrError: there is no such folder or method, or there are no manifests.
    """
    if Path(source).is_dir():
        return check_folder(Path(source), results_folder)
    if ":" not in source and source not in method_names():
        raise MothrError(f"no folder {source!r}; and {unknown_name('method', source, method_names())}")
    return _checked({DESCRIPTION: describe(source, **fields)}, [], results_folder, conduct=True)


def check_folder(folder: Path, results_folder: Path, *, conduct: bool = True) -> Checked:
    """Returns all faults of the submission in ``folder``. With ``conduct=False`` the code of a method is not run."""
    return _checked(*contents_of(folder), results_folder, conduct=conduct)


def describe(source: str, **fields: Any) -> bytes:
    """Returns the description of the method ``source`` as YAML, made from its declaration and the ``fields`` not None.

    Raises:
        MothrError: the method cannot be found, or its fields cannot be recorded.
    """
    declared = about(find_method(source), source)
    value = {key: field for key, field in fields.items() if field is not None} | {
        "version": declared.version,
        "method": source,
        "given": sorted({*declared.needs, "trees"}),
        "settings": list(SETTINGS),
        "tuned_on": list(declared.tuned_on),
    }
    return bytes(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, encoding="utf-8"))


def split_folders(results_folder: Path) -> dict[str, Path]:
    """Returns split, as ``<split>-v<k>``, -> its results folder, for each split that has a manifest.

    Raises:
        MothrError: there is none.
    """
    folders = {path.parent.name: path.parent for path in sorted(results_folder.glob(f"*-v*/{dataset.MANIFEST}"))}
    if not folders:
        raise MothrError(
            f"{results_folder}: holds no split; name the 'results' folder of a checkout, or of 'mothr run'"
        )
    return folders


def is_withheld(folder: Path) -> bool:
    """Returns whether the labels of a split are withheld, from the results folder of the split."""
    return not (folder / dataset.TRUTH).is_file()


def _checked(
    contents: Mapping[str, bytes], problems: Iterable[tuple[str, str]], results_folder: Path, *, conduct: bool
) -> Checked:
    """Returns the result of checking the ``contents`` of a folder whose other files have ``problems``."""
    folders = split_folders(results_folder)
    submission, texts = parse(contents.get(DESCRIPTION), folders)
    findings = [_fault(*problem) for problem in problems] + [_fault(DESCRIPTION, text) for text in texts]
    if submission:
        findings.append(Finding(DESCRIPTION, "ok", f"{submission.name}, by {len(submission.authors)}"))
    predictions: dict[tuple[str, Setting], SubmittedPrediction] = {}
    for file in sorted(contents.keys() - {DESCRIPTION}):
        try:
            prediction, text = _prediction(file, contents[file], folders)
            board = _board(file, submission)
            if board in predictions:
                raise MothrError("another file is for the same split and setting; keep one of the two")
            if board and board[1] == "known-trees" and is_withheld(folders[board[0]]):
                raise MothrError(
                    "the labels of this split are withheld, so its trees are not given to anybody; "
                    "send a prediction for 'open'"
                )
            if board:
                predictions[board] = SubmittedPrediction(*board, prediction)
            findings.append(Finding(file, "ok", f"{board[1]}: {text}" if board else text))
        except MothrError as error:
            findings.append(_fault(file, str(error).removeprefix(f"{file}: ")))
    if submission:
        findings += _check_kind(submission, has_predictions=len(contents) > 1)
        if submission.method and conduct and all(finding.status == "ok" for finding in findings):
            with Isolated() as executor:
                findings += check_conduct(submission, executor)
    return Checked(tuple(findings), contents, submission, tuple(predictions.values()))


def _fault(place: str, text: str) -> Finding:
    """Returns a failed finding. Its words may be a stranger's: they are cut, and cannot control a terminal."""
    place, text = (
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words) for words in (place, text)
    )
    return Finding(place, "FAILED", text[:600])


def _prediction(file: str, content: bytes, folders: Mapping[str, Path]) -> tuple[Prediction, str]:
    """Returns the prediction in a file, and its description in words.

    Raises:
        MothrError: the content is no JSON or no legal graph, or does not name exactly the models of the split.
    """
    split = PREDICTION.fullmatch(file)["split"]  # type: ignore[index]
    if split not in folders:
        raise MothrError(
            f"{unknown_name('split', split, folders)}; rename the file, or update your checkout of the results"
        )
    try:
        value = parse_json(content.decode())
    except (ValueError, RecursionError) as error:
        raise MothrError(f"is not valid JSON ({error}); write it again, see the README for an example") from None
    if isinstance(value, dict) and value.keys() & {"metrics", "per_tree"}:
        raise MothrError("holds scores, which are never submitted; send the prediction alone")
    models = {model.id for model in dataset.open_manifest(folders[split]).models}
    prediction = Prediction.from_json(value, file).of(models, f"as a prediction on {split} it")
    text = f"{len(models)} models, {len(prediction.graph.edges)} edges"
    if is_withheld(folders[split]):
        text += "; the labels are withheld, and the maintainers score it"
    if (later := later_version(folders[split])) is not None:
        text += f"; this split is superseded: send a prediction on {later.superseded_by} instead"
    return prediction, text


def _board(file: str, submission: Submission | None) -> tuple[str, Setting] | None:
    """Returns the split and the setting that a file is for; None if the description is faulty.

    Raises:
        MothrError: the file's name and the description contradict each other.
    """
    match = PREDICTION.fullmatch(file)
    if submission is None or match is None:
        return None
    settings = [setting for setting in submission.settings if match["setting"] in (None, setting)]
    if not settings:
        raise MothrError(f"'settings' of {DESCRIPTION} lacks {match['setting']!r}; add it there, or rename the file")
    if len(settings) > 1:
        names = " and ".join(f"{match['split']}-{setting}.json" for setting in settings)
        raise MothrError(f"'settings' of {DESCRIPTION} has both, and the file name has none; make it {names}")
    return match["split"], settings[0]


def _check_kind(submission: Submission, *, has_predictions: bool) -> Iterator[Finding]:
    """Yields a fault unless a submission consists either of predictions or of a method with its code."""
    if submission.method is None and not has_predictions:
        yield _fault(
            "folder",
            "holds no prediction, and no 'method' is named; add <split>-v<k>.json, or 'method: module:attribute'",
        )
    if submission.method is not None and has_predictions:
        yield _fault(
            "folder",
            "holds predictions and names a method; remove one of them, since the maintainers run a method themselves",
        )
    if submission.method is not None and submission.code is None:
        yield _fault(DESCRIPTION, "names a method but no address of its code; add 'code: https://...'")


def check_conduct(submission: Submission, executor: Isolated) -> Iterator[Finding]:
    """Yields a fault for each difference between a method and its description; without any, a finding for each rule.

    The rules are those of ``mothr check``. The method's code runs in ``executor`` alone.
    """
    assert submission.method
    try:
        declared, findings = executor.check(submission.method, {})
    except MothrError as error:
        yield _fault("method", str(error))
        return
    needed = sorted({*declared.needs, *(["trees"] if "known-trees" in submission.settings else [])})
    problems = []
    if needed != sorted(submission.given):
        problems.append(
            f"'given' is [{', '.join(submission.given)}], but the method needs [{', '.join(needed)}]; write the latter"
        )
    if missing := sorted(set(declared.tuned_on) - set(submission.tuned_on)):
        problems.append(f"'tuned_on' lacks {', '.join(missing)}, which the method declares; add it")
    if declared.version != submission.version:
        problems.append(
            f"'version' is {submission.version!r}, but the method's is {declared.version!r}; write the latter"
        )
    yield from (_fault(DESCRIPTION, problem) for problem in problems)
    if not problems:
        yield from findings
