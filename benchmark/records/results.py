"""The result record: one run of one method on one split with one seed, as it is written, read and checked.

A record holds the predicted parents, so that a metric added later needs no new run. Records lie in
``results/<split>-v<k>/``, beside that split's ``manifest.json``, ``truth.json`` and ``pairs.json``.
"""

import json
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mothr.benchmark import __version__
from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.side_information import GivenName
from mothr.benchmark.storage import canonical_sha256, read_json, write_json

IDENTITY = ("split", "split_version", "manifest_sha256", "setting", "method", "method_version", "parameters", "seed")
"""The fields that tell one run from another; running the same again replaces the file."""
OPTIONAL = ("confidence", "trees", "abstained", "relations")
"""Parts of an answer that not every method gives."""
SUPERSEDED = "superseded.json"
"""``{"superseded_by": "<split>-v<k>", "reason": "..."}``: what is published is never edited; a later version takes its place."""
PAIRS = "pairs.json"
"""Distances and evidence of direction between the models of each true tree; see :mod:`mothr.benchmark.board.pairs`."""
NOT_RECORDS = ("manifest.json", "truth.json", SUPERSEDED, PAIRS)
"""JSON files that lie beside the records of a split."""
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "transformers", "diffusers", "peft")
"""Packages whose versions a record names, where installed."""

Configuration = tuple[str, str, str]
"""Method, its version, and all its parameters as JSON."""
Setting = Literal["known-trees", "open"]
Status = Literal["ok", "failed", "timeout", "skipped"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class RunRecord(BaseModel):
    """One run of a method, with its answer and its scores."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )

    schema_version: Literal[1] = 1
    """The version of this format."""
    split: Name
    """The split's name."""
    split_version: Annotated[int, Field(ge=1)]
    """The split's version."""
    manifest_sha256: Sha256
    """SHA-256 of the split's ``manifest.json``: of the very weights the method was given."""
    setting: Setting
    """What every method on this board was told: the partition into trees, or nothing."""
    method: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """A registered name or ``module:attribute``."""
    method_version: str
    """The method's own version."""
    parameters: dict[str, Any]
    """The method's hyper-parameters; any JSON values."""
    seed: Annotated[int, Field(ge=0)]
    """The number of the run, from 0, from which its random generator is derived."""
    given: list[GivenName] = Field(validation_alias=AliasChoices("given", "told"), serialization_alias="told")
    """What this method was told beside the weights, sorted."""
    status: Status
    """How the run ended. A run that failed or ran out of time scores zero; a skipped one is a gap."""
    error: str | None = None
    """Why there is no answer; none where the run is ok."""
    parents: dict[NodeId, list[NodeId]] | None = None
    """The answer: each model with its predicted parents; none where the run is not ok."""
    confidence: dict[NodeId, dict[NodeId, float]] | None = None
    """Child -> parent -> probability of that edge, where the method gives it."""
    trees: dict[NodeId, int] | None = None
    """Cluster labels, where the method has them apart from the graph."""
    abstained: list[NodeId] | None = None
    """Models whose parents the method declined to name."""
    relations: dict[NodeId, Relation] | None = None
    """How models came from their parents, where the method says it."""
    metrics: dict[str, float | None]
    """Metric -> value over the whole forest; none where it is undefined."""
    per_tree: list[dict[str, int | float | None]]
    """The same for each true Model Tree, with its label under ``tree``."""
    seconds: Annotated[float, Field(ge=0)] | None = None
    """Wall-clock time of the method's process."""
    peak_bytes: Annotated[int, Field(ge=0)] | None = None
    """Largest resident memory of the method's process."""
    device: str
    """Where the method ran: cpu, cuda, ..."""
    mothr_version: str
    """The version of this package."""
    commit: str | None
    """The commit of this package's checkout; none where it was installed otherwise."""
    dirty: bool | None
    """Whether that checkout differed from the commit, results aside."""
    packages: dict[str, str]
    """Package -> installed version, Python's own included."""
    date: Date
    """When the run ended, in UTC."""
    tuned_on: list[str] = []
    """The splits whose truth was used to choose the parameters."""
    isolation: Literal["sandbox", "process"] | None = None
    """How the method was kept from all but the models: a process of its own that the system kept from other files and the network, or
    one without such a lock; none where it ran within the harness."""
    verified: bool = False
    """Whether the maintainers have repeated the run."""
    submission: Name | None = None
    """The folder of ``submissions`` that it was scored from; none where ``mothr run`` wrote it."""

    @field_validator("parameters", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """Turns tuples into lists, so that a record equals what is read back from its file."""
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except TypeError as error:
            raise ValueError(str(error)) from None

    @field_validator("per_tree")
    @classmethod
    def _labelled(cls, value: list[dict[str, int | float | None]]) -> list[dict[str, int | float | None]]:
        """Refuses rows without a tree's label, or two with the same; makes the labels whole numbers."""
        labels = [scores.get("tree") for scores in value]
        if any(label is None or label != int(label) for label in labels):
            raise ValueError("each entry needs its tree's label, a whole number, under 'tree'")
        if len(set(labels)) < len(labels):
            raise ValueError("a tree is named twice")
        return [scores | {"tree": int(scores["tree"] or 0)} for scores in value]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status == "ok":
            if self.parents is None or self.error is not None:
                raise ValueError("a run that is ok has parents and no error")
            try:
                self.prediction()
            except MothrError as error:
                raise ValueError(str(error)) from None
        elif self.parents is not None or not self.error:
            raise ValueError(f"a run that is {self.status} has no parents and says why under 'error'")
        return self

    @property
    def configuration(self) -> Configuration:
        """Method, its version, and all its parameters as JSON."""
        return self.method, self.method_version, json.dumps(self.parameters, sort_keys=True)

    def prediction(self) -> Prediction:
        """Returns the answer of a run that is ok.

        Raises:
            MothrError: the run has no answer, or it is no legal graph.
        """
        if self.parents is None:
            raise MothrError(
                f"run of {self.method!r} with seed {self.seed} is {self.status} and holds no answer: {self.error}"
            )
        optional = {name: item for name in OPTIONAL if (item := getattr(self, name)) is not None}
        value = {"schema_version": 1, "parents": self.parents} | optional
        return Prediction.from_json(value, "parents")

    def tree_scores(self) -> dict[int, dict[str, int | float | None]]:
        """Returns tree label -> metric -> value."""
        return {
            int(scores["tree"] or 0): {name: scores[name] for name in scores if name != "tree"}
            for scores in self.per_tree
        }


def identity(record: RunRecord) -> dict[str, Any]:
    """Returns the fields that tell this run from any other."""
    return {name: getattr(record, name) for name in IDENTITY}


def file_name(record: RunRecord) -> str:
    """Returns the name of the record's file: its method, made safe, and 8 hex digits of the SHA-256 of its identity."""
    safe = re.sub(r"[^A-Za-z0-9_]+", "-", record.method).strip("-")[:100]
    return f"{safe}-{canonical_sha256(identity(record))[:8]}.json"


def folder_name(split: str, split_version: int) -> str:
    """Returns the name of the folder that holds the records of a split."""
    return f"{split}-v{split_version}"


def write(record: RunRecord, folder: Path) -> Path:
    """Returns the path of the record's file, written atomically below the results folder ``folder``.

    Raises:
        MothrError: the file cannot be written.
    """
    path = folder / folder_name(record.split, record.split_version) / file_name(record)
    value = record.model_dump(by_alias=True)
    for name in (*OPTIONAL, "isolation", "submission"):
        if value[name] is None:
            del value[name]
    write_json(path, value)
    return path


def read(path: Path) -> RunRecord:
    """Returns the record in ``path``.

    Raises:
        MothrError: the file is missing, is not JSON, or is no legal record; names every fault.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise MothrError(f"{path}: a result is a JSON object, not {type(value).__name__}")
    schema = value.get("schema_version")
    if type(schema) is not int or schema != 1:  # True equals 1
        raise MothrError(f"{path}: schema_version is {schema!r}; this version of mothr reads 1")
    try:
        return RunRecord.model_validate(value)
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, RunRecord))}") from None


def read_answer(path: Path) -> Prediction:
    """Returns the answer in ``path``, a prediction file or a record.

    Raises:
        MothrError: it is neither, is no legal answer, or is the record of a run without one.
    """
    value = read_json(path)
    if isinstance(value, dict) and "manifest_sha256" in value:
        return read(path).prediction()
    return Prediction.from_json(value, str(path))


def read_all(folder: Path) -> list[RunRecord]:
    """Returns every record below the results folder ``folder``, sorted by file.

    Manifests, truths, pairs and everything in a folder ``submissions`` are passed over.

    Raises:
        MothrError: no such folder, a file that is no record, or a record in the wrong folder or under the wrong name.
    """
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder")
    records = []
    for path in sorted(folder.rglob("*.json")):
        inside = path.relative_to(folder).parts
        if path.name in NOT_RECORDS or any(part.startswith(".") or part == "submissions" for part in inside):
            continue
        record = read(path)
        place = Path(folder_name(record.split, record.split_version), file_name(record))
        if path.resolve().parts[-2:] != place.parts:
            raise MothrError(
                f"{path}: its content belongs into {place}; move it there, or undo the edit that changed it"
            )
        records.append(record)
    return records


class Superseded(BaseModel):
    """Says that a later version takes the place of a split."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    superseded_by: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*-v[1-9][0-9]*$", max_length=120)
    ]
    """The other split's folder of results, as ``vthr-ft-v2``."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """What was wrong, in a sentence."""


def superseded(place: Path) -> Superseded | None:
    """Returns what takes the place of the split whose results lie in ``place``; None if it is the latest.

    Raises:
        MothrError: the file that says so is faulty, or names the split itself.
    """
    path = place / SUPERSEDED
    if not path.is_file():
        return None
    try:
        found = Superseded.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, Superseded))}") from None
    if found.superseded_by == place.resolve().name:
        raise MothrError(f"{path}: names the very split that it lies with; name the one that takes its place")
    return found


def environment(device: str = "cpu") -> dict[str, Any]:
    """Returns the fields of a record that say where and by what it was made: device, versions, commit, date."""
    commit, dirty = _checkout(Path(__file__))
    return {
        "device": device,
        "mothr_version": __version__,
        "commit": commit,
        "dirty": dirty,
        "packages": dict(_packages()),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


# Both are looked up once a process: what it has loaded stays as it is, and looking takes longer than a small run.
@cache
def _packages() -> dict[str, str]:
    """Returns package -> installed version for those of :data:`PACKAGES` that are installed, and Python's own."""
    packages = {"python": python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


@cache
def _checkout(file: Path) -> tuple[str | None, bool | None]:
    """Returns the commit of the checkout that tracks ``file`` and whether it has been edited since; (None, None) if none does."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=file.parent, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        commit = git("rev-parse", "HEAD")
        return commit, bool(git("status", "--porcelain", "--", ":(top)", ":(top,exclude)results"))
    except (OSError, subprocess.SubprocessError):
        return None, None
