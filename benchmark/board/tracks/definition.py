"""The tracks of a folder of results: which split belongs to which track.

``tracks.toml`` in the folder of results defines them. Each ``[[tracks]]`` is a track::

    dev = ["*-dev"]                       # splits for choosing parameters: they belong to no track

    [[tracks]]
    name = "full"
    title = "Full fine-tuning"
    about = "Every weight of a child is trained."
    splits = ["*-ft", "!real-*"]          # shell patterns; "!" takes splits out again, the last fitting pattern decides

A split belongs to the last track that takes it, so that a special track can stand below a general one.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.run.plan import selects

NAME = "tracks.toml"
"""Name of the file in a folder of results."""
Pattern = Annotated[str, Field(pattern=r"^!?[^!]+$", max_length=100)]
Line = Annotated[str, Field(min_length=1, max_length=300)]


class Track(BaseModel):
    """One track."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    """A short name, for links and for ``--json``."""
    title: Annotated[str, Field(min_length=1, max_length=40)]
    """The name on pages."""
    about: Line
    """What the track's splits have in common, in one sentence."""
    splits: Annotated[list[Pattern], Field(min_length=1)]
    """Shell patterns of the names of its splits. A pattern behind ``!`` takes splits out again; the last fitting one decides."""

    def takes(self, split: str) -> bool:
        """Returns whether the patterns take the split of that name."""
        return selects(self.splits, split)


class Tracks(BaseModel):
    """All tracks, in the order of the file, which is the order of pages."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dev: list[Pattern] = []
    """Shell patterns of splits that belong to no track, because parameters are chosen on them."""
    tracks: Annotated[list[Track], Field(min_length=1)]
    """The tracks."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        """Refuses two tracks of one name."""
        names = [track.name for track in self.tracks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two tracks have the name {twice[0]!r}; rename one of them")
        return self

    def of(self, split: str) -> Track | None:
        """Returns the track of the split of that name; None if it belongs to none."""
        if selects(self.dev, split):
            return None
        return next((track for track in reversed(self.tracks) if track.takes(split)), None)


ALL_SPLITS = Tracks(tracks=[Track(name="all", title="All splits", about="Every split of the folder.", splits=["*"])])
"""The tracks of a folder that defines none."""


def read(path: Path) -> Tracks:
    """Returns the tracks that the file ``path`` defines.

    Raises:
        MothrError: the file cannot be read, or defines no tracks.
    """
    try:
        values: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MothrError(f"{path}: cannot read these tracks ({error}); check the path and its rights") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of too many digits
        raise MothrError(f"{path}: not valid TOML: {error}") from None
    try:
        return Tracks.model_validate(values)
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, Tracks))}") from None


def of_results(results: Path) -> Tracks | None:
    """Returns the tracks of a folder of results; None if it defines none.

    Raises:
        MothrError: as :func:`read`.
    """
    path = results / NAME
    return read(path) if path.is_file() else None
