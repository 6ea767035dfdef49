"""The record of one run: one method, on one split, in one setting, with one seed.

A record holds the prediction itself. A metric that is added later is computed from the records, without a new run.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.side_information import GivenName, MethodKind
from mothr.benchmark.storage import canonical_json, canonical_sha256

SCHEMA_VERSION = 4
"""The version of the format that is written. All earlier ones are read, too."""
BY_POSITION = 2
"""The last version in which ``tree`` of an entry of ``per_tree`` was a position, not the number that the truth gives the tree."""
BY_ROW = 3
"""The last version whose files hold ``per_tree`` as a list of entries. Later files hold a list for each metric, which is shorter."""
IDENTITY = ("split", "split_version", "manifest_sha256", "setting", "method", "method_version", "parameters", "seed")
"""The fields that distinguish one run from another. A run with the same identity replaces the older one."""
OPTIONAL_PARTS = ("confidence", "trees", "abstained", "relations")
"""Parts of a prediction that not every method gives."""

Configuration = tuple[str, str, str]
"""Method, its version, and all its parameters as JSON."""
Setting = Literal["known-trees", "open"]
"""``known-trees``: the method is given the partition into Model Trees. ``open``: it is given the weights alone."""
Status = Literal["ok", "failed", "timeout", "skipped"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


def kind_of_run(declared: MethodKind, given: Collection[GivenName]) -> MethodKind:
    """Returns the kind of a method in one run, from the kind that it declares and what it was given.

    A method that is given the truth is an oracle, and one that is given metadata is of the kind ``metadata``, even if
    the method does not declare it. Neither is ranked.
    """
    if declared in ("null", "oracle"):
        return declared
    if "truth" in given:
        return "oracle"
    return "metadata" if "metadata" in given else declared


class RunRecord(BaseModel):
    """One run of a method, with its prediction and its scores."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    schema_version: Literal[2, 3, 4] = 4
    """The version of this format. In version 2, ``tree`` of ``per_tree`` is a position; see :meth:`with_tree_labels`. Versions 3 and 4
    differ in files alone; see :data:`BY_ROW`."""
    split: Name
    """The split's name."""
    split_version: Annotated[int, Field(ge=1)]
    """The split's version."""
    manifest_sha256: Sha256
    """SHA-256 of the split's ``manifest.json``, which lists the weights that the method was given."""
    setting: Setting
    """The setting of the board."""
    method: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """A registered name or ``module:attribute``."""
    method_version: str
    """The method's own version."""
    kind: MethodKind
    """The method's kind."""
    parameters: dict[str, Any]
    """The method's parameters; any JSON values."""
    seed: Annotated[int, Field(ge=0)]
    """The number of the run, from 0. The method's random generator is derived from it."""
    given: list[GivenName]
    """The side information that the method was given beside the weights, sorted."""
    status: Status
    """How the run ended. A run that failed or ran out of time scores zero; a skipped run counts as missing."""
    error: str | None = None
    """Why there is no prediction; None if the status is ``ok``."""
    parents: dict[NodeId, list[NodeId]] | None = None
    """Each model with its predicted parents; None unless the status is ``ok``."""
    confidence: dict[NodeId, dict[NodeId, float]] | None = None
    """Child -> parent -> probability of that edge, if the method gives it."""
    trees: dict[NodeId, int] | None = None
    """Cluster labels, if the method gives them apart from the graph."""
    abstained: list[NodeId] | None = None
    """Models whose parents the method declined to name."""
    relations: dict[NodeId, Relation] | None = None
    """Model -> relation to its parents, if the method gives it."""
    metrics: dict[str, float | None]
    """Metric -> value over the whole Model Graph; None if it is undefined."""
    per_tree: list[dict[str, int | float | None]]
    """The same for each true Model Tree, in the order of :attr:`mothr.benchmark.graph.ModelGraph.trees`. ``tree`` is the label of
    :meth:`mothr.benchmark.graph.ModelGraph.tree_labels`: the number ``tree`` that the truth gives its models."""
    seconds: Annotated[float, Field(ge=0)] | None = None
    """Wall-clock time of the method's process, in seconds."""
    peak_bytes: Annotated[int, Field(ge=0)] | None = None
    """Largest resident memory of the method's process, in bytes."""
    device: str
    """The device that features were computed on: cpu, cuda, ..."""
    mothr_version: str
    """The version of this package."""
    commit: str | None
    """The commit of this package's checkout; None if it was installed without one."""
    dirty: bool | None
    """Whether that checkout differed from the commit, outside ``results``."""
    packages: dict[str, str]
    """Package -> installed version, with Python's own."""
    date: Date
    """When the run ended, in UTC."""
    tuned_on: list[str] = []
    """The splits whose truth was used to choose the parameters."""
    isolation: Literal["sandbox", "process"] | None = None
    """``sandbox``: the method ran in a process of its own, which the system kept from other files and the network.
    ``process``: it ran in a process of its own without that lock. None: it ran in the harness's process."""
    verified: bool = False
    """Whether the maintainers have repeated the run."""
    submission: Name | None = None
    """The folder below ``submissions`` that the run was scored from; None if ``mothr run`` made it."""

    @field_validator("parameters", mode="before")
    @classmethod
    def _as_json_values(cls, value: Any) -> Any:
        """Returns ``value`` with lists for tuples, so that a record equals the one read back from its file."""
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except TypeError as error:
            raise ValueError(str(error)) from None

    @field_validator("per_tree")
    @classmethod
    def _tree_labels(cls, value: list[dict[str, int | float | None]]) -> list[dict[str, int | float | None]]:
        """Returns ``value`` with whole numbers as labels; refuses a row without a label, and a label used twice."""
        labels = [scores.get("tree") for scores in value]
        if any(label is None or label != int(label) for label in labels):
            raise ValueError("each entry needs its tree's label, a whole number, under 'tree'")
        if len(set(labels)) < len(labels):
            raise ValueError("a tree is named twice")
        return [scores | {"tree": int(scores["tree"] or 0)} for scores in value]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuses a status that contradicts the other fields."""
        if self.status == "ok":
            if self.parents is None or self.error is not None:
                raise ValueError("a run that is ok has parents and no error")
            try:
                self.prediction()
            except MothrError as error:
                raise ValueError(str(error)) from None
        elif self.parents is not None or not self.error:
            raise ValueError(f"a run that is {self.status} has no parents, and 'error' holds the reason")
        if self.kind != (kind := kind_of_run(self.kind, self.given)):
            raise ValueError(
                f"kind is {self.kind!r}, but a run that was given {', '.join(self.given)} is of the kind {kind!r}"
            )
        return self

    @property
    def configuration(self) -> Configuration:
        """Method, its version, and all its parameters as JSON."""
        return self.method, self.method_version, json.dumps(self.parameters, sort_keys=True)

    @property
    def flat_parameters(self) -> dict[str, Any]:
        """The parameters by dotted path, as ``--set`` takes them: ``{"a": {"b": 1}}`` is ``{"a.b": 1}`` here."""
        return dict(_flat(self.parameters, ""))

    @property
    def run_id(self) -> str:
        """The method's name, with hyphens for special characters, and 8 hex digits of the SHA-256 of the identity."""
        safe = re.sub(r"[^A-Za-z0-9_]+", "-", self.method).strip("-")[:100]
        return f"{safe}-{canonical_sha256(identity(self))[:8]}"

    def prediction(self) -> Prediction:
        """Returns the prediction of a run that is ok.

        Raises:
            MothrError: the run has no prediction, or its parents are no legal graph.
        """
        if self.parents is None:
            raise MothrError(
                f"the run of {self.method!r} with seed {self.seed} is {self.status} and holds no prediction: "
                f"{self.error}"
            )
        optional = {name: part for name in OPTIONAL_PARTS if (part := getattr(self, name)) is not None}
        return Prediction.from_json({"schema_version": 1, "parents": self.parents} | optional, "parents")

    def tree_scores(self) -> dict[int, dict[str, int | float | None]]:
        """Returns tree label -> metric -> value."""
        return {
            int(scores["tree"] or 0): {name: scores[name] for name in scores if name != "tree"}
            for scores in self.per_tree
        }

    def with_tree_labels(self, labels: Sequence[int]) -> "RunRecord":
        """Returns the record in schema version 3, with these labels under ``tree``.

        Args:
            labels: the label of each Model Tree of the truth; see :meth:`mothr.benchmark.graph.ModelGraph.tree_labels`.
        """
        relabelled = [scores | {"tree": labels[int(scores["tree"] or 0)]} for scores in self.per_tree]
        return self.model_copy(update={"per_tree": relabelled, "schema_version": BY_POSITION + 1})

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON values, in the form of its schema version. A field that is None and may be absent is left out."""
        absent = {name for name, field in type(self).model_fields.items() if not field.is_required()}
        values = {name: value for name, value in self.model_dump().items() if value is not None or name not in absent}
        return values if self.schema_version <= BY_ROW else values | {"per_tree": _columns(self.per_tree)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> "RunRecord":
        """Returns the record whose JSON values are ``value``, of any schema version.

        Args:
            value: what :meth:`to_json` gave, in this version or an earlier one.
            where: the file, and its line if it has several records, for error messages.

        Raises:
            MothrError: the value is no legal record; the message names every fault.
        """
        if not isinstance(value, dict):
            raise MothrError(f"{where}: a record is a JSON object, not {type(value).__name__}")
        schema = value.get("schema_version")
        if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:  # True equals 1
            raise MothrError(
                f"{where}: schema_version is {schema!r}; this version of mothr reads 1 to {SCHEMA_VERSION}; update mothr"
            )
        if schema == 1:
            value = upgrade(value)
        elif schema > BY_ROW and "per_tree" in value:
            value = value | {"per_tree": _rows(value["per_tree"], where)}
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise MothrError(f"{where}: {'; '.join(faults(error, cls))}") from None


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns {metric: its value of each tree}; None instead of the list if the metric is undefined for every tree."""
    columns = {name: [row.get(name) for row in rows] for name in sorted({name for row in rows for name in row})}
    return {name: values if any(value is not None for value in values) else None for name, values in columns.items()}


def _rows(columns: Any, where: str) -> list[dict[str, Any]]:
    """Returns what :func:`_columns` was given.

    Raises:
        MothrError: ``columns`` is no object of lists of one length.
    """
    values = columns.values() if isinstance(columns, dict) else [columns]
    lists = [each for each in values if isinstance(each, list)]
    whole = isinstance(columns, dict) and len(lists) == sum(each is not None for each in values)
    if not whole or len({len(each) for each in lists}) != bool(columns):
        raise MothrError(
            f"{where}: per_tree: is an object with a list for each metric, all of one length; null: undefined"
        )
    return [
        {name: None if column is None else column[place] for name, column in columns.items()}
        for place in range(len(lists[0]) if lists else 0)
    ]


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) for each value that is no object, or an empty one."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def identity(record: RunRecord) -> dict[str, Any]:
    """Returns the fields that distinguish this run from any other."""
    return {name: getattr(record, name) for name in IDENTITY}


def identity_key(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a key that is equal for equal identities, and sorts runs by method, version, parameters, setting, seed.

    Args:
        fields: what :func:`identity` returns, or all values of a record.
    """
    numbers = ("seed", "split_version")
    order = ("method", "method_version", "parameters", "setting", "seed", "split", "split_version", "manifest_sha256")
    texts = {name: canonical_json(fields[name]) if name == "parameters" else str(fields[name]) for name in order}
    return tuple(text.zfill(12) if name in numbers else text for name, text in texts.items())


def upgrade(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a value of schema version 2 with the content of ``value``, which is of schema version 1.

    Version 1 called ``given`` ``told``. It had no ``kind``: the method's name began with ``null-`` or ``oracle-``.
    From version 2 to 3 the truth is needed; see :meth:`RunRecord.with_tree_labels`.
    """
    upgraded = {name: item for name, item in value.items() if name != "told"} | {"schema_version": BY_POSITION}
    if "told" in value:
        upgraded["given"] = value["told"]
    method, given = str(value.get("method")), value.get("told")
    if method.startswith("null-"):
        upgraded["kind"] = "null"
    elif method.startswith("oracle-"):
        upgraded["kind"] = "oracle"
    else:
        upgraded["kind"] = kind_of_run("method", given if isinstance(given, list) else [])
    return upgraded
