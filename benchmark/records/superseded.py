"""The file that says that a later version of a split takes the place of this one.

Published results are never edited. ``superseded.json`` beside them holds
``{"superseded_by": "<split>-v<k>", "reason": "..."}``.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.benchmark.storage import read_json

SUPERSEDED = "superseded.json"
"""The name of the file."""


class Superseded(BaseModel):
    """Names the later version of a split."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    superseded_by: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*-v[1-9][0-9]*$", max_length=120)
    ]
    """The folder of the later version's results, as ``vthr-ft-v2``."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """What was wrong with this version, in one sentence."""


def later_version(place: Path) -> Superseded | None:
    """Returns the later version of the split whose results lie in ``place``; None if there is none.

    Raises:
        MothrError: ``superseded.json`` is faulty, or names the split itself.
    """
    path = place / SUPERSEDED
    if not path.is_file():
        return None
    try:
        later = Superseded.model_validate(read_json(path))
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, Superseded))}") from None
    if later.superseded_by == place.resolve().name:
        raise MothrError(f"{path}: names the split that it lies with; name the version that takes its place")
    return later
