"""A submission: a folder with a ``submission.yaml``, and predictions unless the YAML file names a method.

Nothing in it is trusted. It is read within limits, no link is followed, and no code in it is run. It holds no scores.
:mod:`mothr.benchmark.exchange.submission_check` lists its faults, and
:mod:`mothr.benchmark.exchange.submission_scores` scores it.
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
from mothr.benchmark.storage import write_bytes, write_error

DESCRIPTION = "submission.yaml"
"""The file that describes a submission."""
GUIDE = "see results/submissions/README.md"
"""Where error messages send the reader."""
MAX_BYTES = {DESCRIPTION: 1 << 16, ".json": 1 << 24}
"""File name or ending -> largest size, in bytes."""
MAX_FILES = 1000
"""Largest number of files."""
MAX_LETTERS, MAX_DEPTH = 2000, 4
"""Longest value in the description, in characters; and the depth to which its lists and objects may nest."""
PREDICTION = re.compile(
    r"(?P<split>[A-Za-z0-9][A-Za-z0-9._-]*-v[1-9][0-9]{0,5})(-(?P<setting>known-trees|open))?\.json"
)
"""The names of prediction files."""
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RESERVED_PREFIXES = ("null-", "oracle-")
"""Prefixes of registered methods that are not ranked. A submission whose name has one could be mistaken for these."""

Line = Annotated[str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True)]
Address = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=300)]


class Submission(BaseModel):
    """The description of a submission: the content of its ``submission.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[1] = 1
    """The version of this format."""
    method: Line | None = None
    """``module:attribute`` or entry point of a method for the maintainers to run; None if predictions are submitted."""
    name: Line
    """The name on the board, and of the folder."""
    authors: Annotated[list[Line], Field(min_length=1, max_length=200)]
    """The authors."""
    given: list[GivenName] = Field(validation_alias=AliasChoices("given", "told"))
    """The side information that the method uses in any of its settings. Older files call it ``told``."""
    settings: Annotated[list[Setting], Field(min_length=1)]
    """The settings that it is submitted for."""
    tuned_on: Annotated[list[Line], Field(max_length=100)]
    """The splits, or other data, whose truth was used to choose anything about the method."""
    version: Line = "0"
    """The version of the method; changed whenever predictions change."""
    paper: Address | None = None
    """Address of the paper."""
    code: Address | None = None
    """Address of the code."""
    contact: Line | None = None
    """Whom to ask."""

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Returns a whole number as text."""
        return str(value) if type(value) is int else value

    @field_validator("method", "name", "authors", "tuned_on", "version", "contact")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        """Refuses control characters and characters that change the direction of writing: they hide the real text."""
        for line in [value] if isinstance(value, str) else value or ():
            if not line.isprintable():
                raise ValueError(f"{line!r} holds characters that cannot be shown; leave them out")
        return value

    @field_validator("name")
    @classmethod
    def _free(cls, value: str, info: ValidationInfo) -> str:
        """Refuses a name that is no folder name, is reserved, or resembles a registered method's."""
        if not NAME.fullmatch(value) or len(value) > 60:
            raise ValueError(
                f"{value!r} is no name for a folder; use up to 60 lower-case letters, digits and single hyphens, "
                "a letter first"
            )
        if value.startswith(RESERVED_PREFIXES):
            prefix = value.partition("-")[0] + "-"
            raise ValueError(f"{value!r} begins with {prefix!r}, which is reserved for bounds; choose another name")
        if (taken := _similar_method(value, info.data.get("method"))) is not None:
            raise ValueError(
                f"{value!r} is too similar to {taken!r}, which is a registered method; choose another name"
            )
        return value

    @field_validator("given", "settings", "tuned_on")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        """Refuses a list with repeated entries."""
        if len(set(value)) < len(value):
            raise ValueError("names something twice; name it once")
        return value

    @field_validator("given")
    @classmethod
    def _not_the_truth(cls, value: list[GivenName]) -> list[GivenName]:
        """Refuses an oracle."""
        if "truth" in value:
            raise ValueError("a method that is given the truth is an oracle, which cannot be submitted; remove 'truth'")
        return value

    @field_validator("settings")
    @classmethod
    def _fits_given(cls, value: list[Setting], info: ValidationInfo) -> list[Setting]:
        """Refuses the setting ``known-trees`` without the trees, and the trees without this setting."""
        given = info.data.get("given")
        if given is not None and "trees" in given and "known-trees" not in value:
            raise ValueError(
                "'given' has 'trees', but 'settings' lacks 'known-trees'; add it, or take 'trees' out of 'given'"
            )
        if given is not None and "trees" not in given and "known-trees" in value:
            raise ValueError(
                "in 'known-trees' a method is given the trees; add 'trees' to 'given', or take 'known-trees' out"
            )
        return value

    @field_validator("tuned_on")
    @classmethod
    def _not_for_testing(cls, value: list[str], info: ValidationInfo) -> list[str]:
        """Refuses splits that are for testing: all known splits whose name does not end in ``-dev``."""
        known = [_without_version(split) for split in (info.context or {}).get("splits", ())]
        tests = {_letters(split): split for split in known if not split.endswith("-dev")}
        for name in value:
            if test := tests.get(_letters(_without_version(name))):
                raise ValueError(
                    f"{name!r} is for testing: scores of a method that was tuned on its truth say nothing about "
                    f"new models; tune on a split that ends in -dev, such as {test}-dev, and predict again"
                )
        return value

    def given_in(self, setting: Setting) -> list[GivenName]:
        """Returns the side information that the method is given in one setting, sorted."""
        return sorted(name for name in self.given if name != "trees" or setting == "known-trees")


def _without_version(split: str) -> str:
    return re.sub(r"-v[0-9]+$", "", split)


def _letters(name: str) -> str:
    """Returns the letters and digits of ``name`` in lower case, so that similar names are equal."""
    return re.sub("[^a-z0-9]", "", name.lower())


def _similar_method(name: str, method: str | None) -> str | None:
    """Returns the registered method whose name is similar to ``name``; the submission's own ``method`` is no match."""
    reserved = {*own_method_names()} | {*method_names()} - {method}
    return {_letters(known): known for known in reserved}.get(_letters(name))


def contents_of(folder: Path) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Returns the files of a submission, and the faults of its folder.

    Args:
        folder: the folder of the submission.

    Returns:
        File name -> content, of the legal files; and (file name, fault) for everything else in the folder.
    """
    contents: dict[str, bytes] = {}
    problems = []
    for number, path in enumerate(sorted(folder.iterdir())):
        if number == MAX_FILES:
            problems.append(
                ("folder", f"holds more than {MAX_FILES} files; keep {DESCRIPTION} and a prediction for each split")
            )
            break
        if (fault := _fault_of_file(path)) is not None:
            problems.append((path.name, fault))
        else:
            contents[path.name] = path.read_bytes()
    return contents, problems


def _fault_of_file(path: Path) -> str | None:
    """Returns why the file at ``path`` cannot be part of a submission; None if it can."""
    max_bytes = MAX_BYTES.get(path.name) or MAX_BYTES.get(path.suffix, 0)
    if path.is_symlink():
        return "is a link; put the file itself there"
    if not path.is_file():
        return "is no file; put all files in the folder itself"
    if path.name != DESCRIPTION and not PREDICTION.fullmatch(path.name):
        return f"is neither {DESCRIPTION} nor <split>-v<k>[-<setting>].json; rename it or remove it"
    if path.stat().st_size > max_bytes:
        return f"has {path.stat().st_size:,} bytes, of {max_bytes:,} allowed; leave out what is not needed"
    return None


def parse(content: bytes | None, splits: Iterable[str] = ()) -> tuple[Submission | None, list[str]]:
    """Returns the description of a submission, None if it is faulty, and all its faults.

    Args:
        content: the bytes of ``submission.yaml``; None if the file is absent.
        splits: the known splits, as ``<split>-v<k>``. A method may not be tuned on those for testing.
    """
    try:
        return Submission.model_validate(_parse_yaml(content), context={"splits": list(splits)}), []
    except ValidationError as error:
        return None, [text if ";" in text else f"{text}; {GUIDE}" for text in faults(error, Submission)]
    except MothrError as error:
        return None, [str(error)]


def read(folder: Path) -> Submission:
    """Returns the description of the submission in ``folder``.

    Raises:
        MothrError: the description is faulty.
    """
    submission, problems = parse(contents_of(folder)[0].get(DESCRIPTION))
    if submission is None:
        raise MothrError(f"{folder / DESCRIPTION}: {'; '.join(problems)}")
    return submission


def _parse_yaml(content: bytes | None) -> dict[str, Any]:
    """Returns the description as plain values.

    Raises:
        MothrError: the content is absent, is no YAML, or has an anchor, a tag, deep nesting or a repeated key. A
            description needs none of these.
    """
    if content is None:
        raise MothrError(f"is missing; {GUIDE} for an example")
    try:
        text = content.decode("utf-8")
        _check_events(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        keys = [str(key.value) for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise MothrError(f"is not valid YAML ({' '.join(str(error).split())}); correct it") from None
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise MothrError(f"has the key {repeated[0]!r} twice; keep one")
    if not isinstance(value, dict):
        raise MothrError(f"does not consist of lines 'key: value'; {GUIDE} for an example")
    return {key if isinstance(key, str) else repr(key): item for key, item in value.items()}


def _check_events(text: str) -> None:
    """Raises MothrError at the first anchor, tag, deep nesting or long value, before it parses the rest of the text."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise MothrError("is nested too deep; a description has lines 'key: value', and lists of words")
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise MothrError("uses an anchor, an alias or a tag; write values out")
        if len(getattr(event, "value", "")) > MAX_LETTERS:
            raise MothrError(f"has a value of more than {MAX_LETTERS} letters; shorten it")


def write(submission: Submission, contents: Mapping[str, bytes], out: Path) -> Path:
    """Writes a checked submission below ``out``, whole or not at all, and returns its folder.

    A folder of the same name is replaced if it has the same authors.

    Raises:
        MothrError: a folder of that name has other authors, or the folder cannot be written.
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
                _check_authors(place, submission)
                place.rename(old)
            new.rename(place)  # fails if another process has written the folder meanwhile
        except BaseException:
            if old.is_dir() and not place.exists():
                old.rename(place)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise write_error(place, error) from error
    return place


def _check_authors(place: Path, submission: Submission) -> None:
    """Raises MothrError unless the submission at ``place`` has the authors of ``submission``."""
    authors = []
    if place.is_dir() and not place.is_symlink():
        existing, _ = parse(contents_of(place)[0].get(DESCRIPTION))
        authors = existing.authors if existing else []
    if sorted(authors) != sorted(submission.authors):
        raise MothrError(f"{place}: exists already, by {', '.join(authors) or 'unknown authors'}; choose another name")
