"""Checks a submission where it is, before it is sent in: needs no network, no weights and no truth, only the splits' manifests."""

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
from mothr.benchmark.run import evaluate
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.isolation import Runner
from mothr.benchmark.run.method import about
from mothr.benchmark.run.registry import find_method, method_names
from mothr.benchmark.storage import parse_json


@dataclass(frozen=True)
class Answer:
    """One prediction of a submission."""

    split: str
    """The folder of results of its split: ``<split>-v<k>``."""
    setting: Setting
    """The board it is for."""
    prediction: Prediction
    """Of exactly the models of the split."""


@dataclass(frozen=True)
class Checked:
    """What checking a submission showed."""

    findings: tuple[Finding, ...]
    """One for each thing looked at, and one for each fault."""
    contents: Mapping[str, bytes]
    """File name -> the very bytes that were checked."""
    submission: Submission | None
    """None where the description is faulty."""
    answers: tuple[Answer, ...]
    """Its sound predictions."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return all(finding.status == "ok" for finding in self.findings)


def check(source: str, results_folder: Path, **said: Any) -> Checked:
    """Returns what is wrong with a submission, every fault at once; a method named by it is tried on tiny forests.

    Args:
        source: the folder, or the name of a method, whose description is then made from what it says of itself.
        results_folder: holds the manifests of the splits, at ``<split>-v<k>/manifest.json``.
        said: what a method's description has besides: its ``name``, its ``authors``, its ``code``.

    Raises:
        MothrError: no such folder or method, or no manifests.
    """
    if Path(source).is_dir():
        return check_folder(Path(source), results_folder)
    if ":" not in source and source not in method_names():
        raise MothrError(f"no folder {source!r}; and {unknown_name('method', source, method_names())}")
    return _checked({DESCRIPTION: describe(source, **said)}, [], results_folder, conduct=True)


def check_folder(folder: Path, results_folder: Path, *, conduct: bool = True) -> Checked:
    """Returns what is wrong with the submission in ``folder``; ``conduct=False`` leaves a method's code alone."""
    return _checked(*contents_of(folder), results_folder, conduct=conduct)


def describe(source: str, **said: Any) -> bytes:
    """Returns the description of the method ``source`` as YAML, from what it says of itself; None among ``said`` is left out.

    Raises:
        MothrError: it cannot be found, or its fields cannot be recorded.
    """
    itself = about(find_method(source), source)
    value = {key: one for key, one in said.items() if one is not None} | {
        "version": itself.version, "method": source, "told": sorted({*itself.needs, "trees"}), "settings": list(evaluate.SETTINGS),
        "tuned_on": list(itself.tuned_on),
    }  # fmt: skip
    return bytes(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, encoding="utf-8"))


def splits(results_folder: Path) -> dict[str, Path]:
    """Returns the folder of each split that has a manifest, by its name ``<split>-v<k>``.

    Raises:
        MothrError: there is none.
    """
    found = {path.parent.name: path.parent for path in sorted(results_folder.glob(f"*-v*/{dataset.MANIFEST}"))}
    if not found:
        raise MothrError(
            f"{results_folder}: holds no split; name the 'results' folder of a checkout, or of 'mothr run'"
        )
    return found


def withheld(folder: Path) -> bool:
    """Returns whether the labels of the split whose folder of results this is are hidden."""
    return not (folder / dataset.TRUTH).is_file()


def _checked(
    contents: Mapping[str, bytes], problems: Iterable[tuple[str, str]], results_folder: Path, *, conduct: bool
) -> Checked:
    known = splits(results_folder)
    submission, wrong = parse(contents.get(DESCRIPTION), known)
    findings = [_fault(*problem) for problem in problems] + [_fault(DESCRIPTION, text) for text in wrong]
    if submission:
        findings.append(Finding(DESCRIPTION, "ok", f"{submission.name}, by {len(submission.authors)}"))
    answers: dict[tuple[str, Setting], Answer] = {}
    for file in sorted(contents.keys() - {DESCRIPTION}):
        try:
            prediction, text = _prediction(file, contents[file], known)
            board = _board(file, submission)
            if board in answers:
                raise MothrError("another file is for the same board; keep one of the two")
            if board and board[1] == "known-trees" and withheld(known[board[0]]):
                raise MothrError(
                    "the labels of this split are withheld, so nobody is told its trees; send what was answered in 'open'"
                )
            if board:
                answers[board] = Answer(*board, prediction)
            findings.append(Finding(file, "ok", f"{board[1]}: {text}" if board else text))
        except MothrError as error:
            findings.append(_fault(file, str(error).removeprefix(f"{file}: ")))
    if submission:
        findings += _track(submission, predicted=len(contents) > 1)
        if submission.method and conduct and all(finding.status == "ok" for finding in findings):
            with Runner() as runner:
                findings += conduct_of(submission, runner)
    return Checked(tuple(findings), contents, submission, tuple(answers.values()))


def _fault(where: str, text: str) -> Finding:
    """Returns a failure, whose words may be a stranger's: on one line, without what would steer a terminal."""
    where, text = (
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in one) for one in (where, text)
    )
    return Finding(where, "FAILED", text[:600])


def _prediction(file: str, content: bytes, known: Mapping[str, Path]) -> tuple[Prediction, str]:
    """Returns what a file predicts, and what is in it in words.

    Raises:
        MothrError: it is no JSON, no legal graph, or not one of exactly the models of its split.
    """
    split = PREDICTION.fullmatch(file)["split"]  # type: ignore[index]
    if split not in known:
        raise MothrError(
            f"{unknown_name('split', split, known)}; rename the file, or update your checkout of the results"
        )
    try:
        value = parse_json(content.decode())
    except (ValueError, RecursionError) as error:
        raise MothrError(f"is not valid JSON ({error}); write it again, see the README for an example") from None
    if isinstance(value, dict) and value.keys() & {"metrics", "per_tree"}:
        raise MothrError("holds scores, which a submission never does; send the prediction alone")
    models = {model.id for model in dataset.open_manifest(known[split]).models}
    prediction = Prediction.from_json(value, file).of(models, f"as an answer on {split} it")
    text = f"{len(models)} models, {len(prediction.graph.edges)} edges"
    if withheld(known[split]):
        text += "; the labels are withheld, and the maintainers score it"
    if (later := later_version(known[split])) is not None:
        text += f"; superseded, so better send {later.superseded_by}"
    return prediction, text


def _board(file: str, submission: Submission | None) -> tuple[str, Setting] | None:
    """Returns the split and the setting that a file is for; None where the description does not tell.

    Raises:
        MothrError: its name and the description contradict each other.
    """
    found = PREDICTION.fullmatch(file)
    if submission is None or found is None:
        return None
    settings = [setting for setting in submission.settings if found["setting"] in (None, setting)]
    if not settings:
        raise MothrError(f"'settings' of {DESCRIPTION} lacks {found['setting']!r}; add it there, or rename the file")
    if len(settings) > 1:
        named = " and ".join(f"{found['split']}-{setting}.json" for setting in settings)
        raise MothrError(f"'settings' of {DESCRIPTION} has both, and this file names none; make it {named}")
    return found["split"], settings[0]


def _track(submission: Submission, *, predicted: bool) -> Iterator[Finding]:
    """Yields what is wrong with how a submission is to be scored."""
    if submission.method is None and not predicted:
        yield _fault(
            "folder",
            "holds no prediction, and no 'method' is named; add <split>-v<k>.json, or 'method: module:attribute'",
        )
    if submission.method is not None and predicted:
        yield _fault(
            "folder",
            "holds predictions, and names a method; take one of them away, since a method's answers are made here",
        )
    if submission.method is not None and submission.code is None:
        yield _fault(
            DESCRIPTION, "names a method and not where its code is; add 'code: https://...', so that it can be run"
        )


def conduct_of(submission: Submission, runner: Runner) -> Iterator[Finding]:
    """Yields whether a submitted method is what its description says, and then one finding for each rule of conduct.

    Its code is run by ``runner`` alone.
    """
    assert submission.method
    try:
        itself, findings = runner.check(submission.method, {})
    except MothrError as error:
        yield _fault("method", str(error))
        return
    told = sorted({*itself.needs, *(["trees"] if "known-trees" in submission.settings else [])})
    problems = []
    if told != sorted(submission.given):
        problems.append(
            f"'told' is [{', '.join(submission.given)}], and the method asks for [{', '.join(told)}]; write the latter"
        )
    if unsaid := sorted(set(itself.tuned_on) - set(submission.tuned_on)):
        problems.append(f"'tuned_on' lacks {', '.join(unsaid)}, which the method names; add it")
    if itself.version != submission.version:
        problems.append(
            f"'version' is {submission.version!r}, and the method's is {itself.version!r}; write the latter"
        )
    yield from (_fault(DESCRIPTION, problem) for problem in problems)
    if not problems:
        yield from findings
