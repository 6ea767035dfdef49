"""What people send in: a folder with a ``submission.yaml``, and a prediction for each split unless that names a method.

Nothing in it is trusted: it is read within limits, no link is followed, and nothing in it is run. What it scores is not its to say.
:mod:`mothr.benchmark.exchange.submission_check` says what is wrong with it, :mod:`mothr.benchmark.exchange.submission_scores` scores it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.records.record import Setting
from mothr.benchmark.run.registry import method_names, own_method_names
from mothr.benchmark.side_information import GivenName
from mothr.benchmark.storage import cannot_write, write_bytes

DESCRIPTION = "submission.yaml"
GUIDE = "see results/submissions/README.md"
LARGEST = {DESCRIPTION: 1 << 16, ".json": 1 << 24}
"""Bytes that a file may have: the description, and a prediction."""
FILES = 1000
LONGEST, DEEPEST = 2000, 4
"""Letters of one value of the description, and how deep lists may lie within lists."""
PREDICTION = re.compile(
    r"(?P<split>[A-Za-z0-9][A-Za-z0-9._-]*-v[1-9][0-9]{0,5})(-(?P<setting>known-trees|open))?\.json"
)
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
BOUNDS = ("null-", "oracle-")
"""How the names of methods begin that the board shows apart."""

Line = Annotated[str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True)]
Address = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=300)]


class Submission(BaseModel):
    """What a submission says of itself: the content of its ``submission.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[1] = 1
    """The version of this format."""
    method: Line | None = None
    """``module:attribute`` or entry point of a method that the maintainers are to run; none where predictions are sent in."""
    name: Line
    """What the board calls it, and its folder."""
    authors: Annotated[list[Line], Field(min_length=1, max_length=200)]
    """Who made it."""
    given: list[GivenName] = Field(validation_alias=AliasChoices("given", "told"), serialization_alias="told")
    """What it was told beside the weights, in any of its settings."""
    settings: Annotated[list[Setting], Field(min_length=1)]
    """The boards it is for."""
    tuned_on: Annotated[list[Line], Field(max_length=100)]
    """The splits, or other data, whose truth was used to choose anything about it."""
    version: Line = "0"
    """Changed whenever its answers change."""
    paper: Address | None = None
    """Where it is described."""
    code: Address | None = None
    """Where its code is."""
    contact: Line | None = None
    """Whom to ask."""

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value

    @field_validator("method", "name", "authors", "tuned_on", "version", "contact")
    @classmethod
    def _shown_as_is(cls, value: Any) -> Any:
        """Refuses what would look different from what it is: control characters, and those that change the direction of writing."""
        for line in [value] if isinstance(value, str) else value or ():
            if not line.isprintable():
                raise ValueError(f"{line!r} holds characters that cannot be shown; leave them out")
        return value

    @field_validator("name")
    @classmethod
    def _free(cls, value: str, info: ValidationInfo) -> str:
        if not NAME.fullmatch(value) or len(value) > 60:
            raise ValueError(
                f"{value!r} is to name a folder; use up to 60 lower-case letters, digits and single hyphens, a letter first"
            )
        if value.startswith(BOUNDS):
            raise ValueError(
                f"{value!r} begins as the bounds of the board do; choose a name without {value.partition('-')[0]!r}"
            )
        if (taken := _taken(value, info.data.get("method"))) is not None:
            raise ValueError(f"{value!r} is too near to {taken!r}, which is a registered method; choose another")
        return value

    @field_validator("given", "settings", "tuned_on")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("names something twice; name it once")
        return value

    @field_validator("given")
    @classmethod
    def _not_the_truth(cls, value: list[GivenName]) -> list[GivenName]:
        if "truth" in value:
            raise ValueError(
                "what is told the truth is an oracle, a bound and no submission; say what else it was told"
            )
        return value

    @field_validator("settings")
    @classmethod
    def _fits_what_was_told(cls, value: list[Setting], info: ValidationInfo) -> list[Setting]:
        told = info.data.get("given")
        if told is not None and "trees" in told and "known-trees" not in value:
            raise ValueError(
                "'told' has the trees, so it belongs on the board 'known-trees'; add that, or take 'trees' out of 'told'"
            )
        if told is not None and "trees" not in told and "known-trees" in value:
            raise ValueError(
                "in 'known-trees' a method is told the trees; add 'trees' to 'told', or take 'known-trees' out"
            )
        return value

    @field_validator("tuned_on")
    @classmethod
    def _not_for_testing(cls, value: list[str], info: ValidationInfo) -> list[str]:
        bare = [re.sub(r"-v[0-9]+$", "", split) for split in (info.context or {}).get("splits", ())]
        tests = {_letters(split): split for split in bare if not split.endswith("-dev")}
        for name in value:
            if test := tests.get(_letters(re.sub(r"-v[0-9]+$", "", name))):
                raise ValueError(
                    f"{name!r} is for testing: what was chosen on its truth says nothing about models not seen before; "
                    f"choose on a split that ends in -dev, such as {test}-dev, and answer again"
                )
        return value

    def given_in(self, setting: Setting) -> list[GivenName]:
        """Returns what it was told in one setting, sorted."""
        return sorted(fact for fact in self.given if fact != "trees" or setting == "known-trees")


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _taken(name: str, method: str | None) -> str | None:
    """Returns the registered method that ``name`` could be taken for; what its own author has registered is free."""
    reserved = {*own_method_names()} | {*method_names()} - {method}
    return {_letters(known): known for known in reserved}.get(_letters(name))


def contents_of(folder: Path) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Returns the bytes of each file of a submission by its name, and (name, what is wrong) for all else that is there."""
    contents: dict[str, bytes] = {}
    problems = []
    for number, path in enumerate(sorted(folder.iterdir())):
        largest = LARGEST.get(path.name) or LARGEST.get(path.suffix, 0)
        if number == FILES:
            problems.append(
                ("folder", f"holds more than {FILES} files; keep {DESCRIPTION} and a prediction for each split")
            )
            break
        if path.is_symlink():
            problems.append((path.name, "is a link; put the file itself there"))
        elif not path.is_file():
            problems.append((path.name, "is no file; put all files in the folder itself"))
        elif path.name != DESCRIPTION and not PREDICTION.fullmatch(path.name):
            problems.append(
                (path.name, f"is none of {DESCRIPTION} and <split>-v<k>[-<setting>].json; rename it or take it away")
            )
        elif path.stat().st_size > largest:
            problems.append(
                (path.name, f"has {path.stat().st_size:,} bytes, of {largest:,} allowed; leave out what is not needed")
            )
        else:
            contents[path.name] = path.read_bytes()
    return contents, problems


def parse(content: bytes | None, splits: Iterable[str] = ()) -> tuple[Submission | None, list[str]]:
    """Returns what a description says, None where it is faulty, and all that is wrong with it.

    Args:
        content: of ``submission.yaml``; None where that is absent.
        splits: the known ones, ``<split>-v<k>``, of which those for testing may not be tuned on.
    """
    try:
        return Submission.model_validate(_yaml(content), context={"splits": list(splits)}), []
    except ValidationError as error:
        return None, [text if ";" in text else f"{text}; {GUIDE}" for text in faults(error, Submission)]
    except MothrError as error:
        return None, [str(error)]


def read(folder: Path) -> Submission:
    """Returns the description of the submission in ``folder``.

    Raises:
        MothrError: it is faulty.
    """
    submission, wrong = parse(contents_of(folder)[0].get(DESCRIPTION))
    if submission is None:
        raise MothrError(f"{folder / DESCRIPTION}: {'; '.join(wrong)}")
    return submission


def _yaml(content: bytes | None) -> dict[str, Any]:
    """Returns the description as plain values.

    Raises:
        MothrError: it is absent, no YAML, or has what a description has no use for: anchors, tags, depth, a key twice.
    """
    if content is None:
        raise MothrError(f"is missing; {GUIDE} for one to start from")
    try:
        text = content.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # reads on only while nothing is wrong
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise MothrError("is nested too deep; a description is lines 'key: value', and lists of words")
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise MothrError("uses an anchor, an alias or a tag; write values out")
            if len(getattr(event, "value", "")) > LONGEST:
                raise MothrError(f"has a value of more than {LONGEST} letters; shorten it")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        keys = [str(key.value) for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise MothrError(f"is not valid YAML ({' '.join(str(error).split())}); mend it") from None
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise MothrError(f"has the key {twice[0]!r} twice; keep one")
    if not isinstance(value, dict):
        raise MothrError(f"is not made of lines 'key: value'; {GUIDE} for one to start from")
    return {key if isinstance(key, str) else repr(key): one for key, one in value.items()}


def write(submission: Submission, contents: Mapping[str, bytes], out: Path) -> Path:
    """Returns the folder of a submission that has been checked, written to ``out``: whole or not at all. Its authors may replace it.

    Raises:
        MothrError: a folder of that name is another's, or it cannot be written.
    """
    place = out / submission.name
    try:
        out.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{submission.name}.", suffix=".partial", dir=out))
        old = new.with_suffix(".old")
        try:
            for file, content in contents.items():
                write_bytes(new / file, content)
            new.chmod(0o755)
            if os.path.lexists(place):
                _refuse_another_s(place, submission)
                place.rename(old)
            new.rename(place)  # fails where another has come first
        except BaseException:
            if old.is_dir() and not place.exists():
                old.rename(place)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(place, error) from error
    return place


def _refuse_another_s(place: Path, submission: Submission) -> None:
    """Raises MothrError unless what is at ``place`` is by the authors of ``submission``."""
    authors = []
    if place.is_dir() and not place.is_symlink():
        there, _ = parse(contents_of(place)[0].get(DESCRIPTION))
        authors = there.authors if there else []
    if sorted(authors) != sorted(submission.authors):
        raise MothrError(
            f"{place}: is there already, by {', '.join(authors) or 'nobody knows whom'}; choose another name"
        )
