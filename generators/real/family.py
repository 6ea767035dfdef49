"""What a family of real networks is: its archives, its networks, and what documents say about their parents."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mothr.benchmark.prediction import Relation
from mothr.generators.real.archives import Archive, Opened
from mothr.generators.real.readers.tensors import Reader, Tensors

PREFIX = "real-"
"""The beginning of the name of each split."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network: where its weights are, and what documents say about it."""

    name: str
    """A name that its documents use. It stands in the truth as ``task``, never beside the weights."""
    archive: str
    """File name of the archive that holds it; for the Hub, the name of its repository."""
    members: tuple[str, ...]
    """Paths of its files in the archive."""
    read: Reader | None
    """Reads its files; None if they are copied from a folder."""
    parents: tuple[str, ...] = ()
    """Names of its parents; empty if it has none, or if its parent is not in the family."""
    relation: Relation | None = None
    """How it was made from its parents."""
    subtype: str | None = None
    """A finer kind of the relation."""
    evidence: str = ""
    """Address and kind of the document that names its parents, or that says that it has none."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not in the data set or not in its truth."""

    what: str
    """The network, or ``parent -> child``."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything about a family that may depend on the documents in its archives."""

    networks: Sequence[Network]
    """The networks."""
    left_out: Sequence[LeftOut] = ()
    """What documents contradict or do not say, and networks that are not read."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """For the Hub: name of a repository -> its revision, 40 hex digits. For files on servers: file -> SHA-256."""
    skipped: bool = False
    """Whether networks are missing since their files could not be had. The truth is then a part of the whole one."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the files of a family are obtained."""

    archives: Path | None = None
    """A folder with files that were downloaded elsewhere."""
    download: Callable[[Archive, Path], None] | None = None
    """Downloads an archive into an empty folder; by default the client of the archive does."""
    mirror: str | None = None
    """Address of a server that has the files of OpenModelDB and its records."""
    revisions: Path | None = None
    """A JSON file with the revision of each repository on the Hub; the current ones by default."""
    progress: Callable[[str], None] = lambda text: None
    """Is called with a line about each step."""


Convert = Callable[[Network, Path], Tensors | None]
"""Returns the tensors of a network. If it returns None, it has written them to the folder itself."""


@dataclass(frozen=True, slots=True)
class RealFamily:
    """One family of real networks."""

    name: str
    """Name for ``mothr fetch``; the split is named ``real-<name>``."""
    description: str
    """One or two sentences for the card."""
    archives: tuple[Archive, ...]
    """What is downloaded."""
    content: Callable[[Mapping[str, Opened]], Content] | None
    """Returns networks and parents; its argument maps the file name of each archive to the opened archive."""
    networks: int
    """Number of networks, as it stands in the list before anything is downloaded."""
    edges: int
    """Number of documented edges that are scored."""
    copies: int = 0
    """How many of these edges lead from a root to an exact copy of it, so that no method can tell their direction."""
    licence: str = ""
    """Licence of the weights."""
    libraries: tuple[str, ...] = ()
    """Modules of optional libraries that its readers need."""
    scored: bool = True
    """Whether it has a truth. Without one, methods can predict on it, but cannot be scored."""
    tier: Literal["packages", "online"] = "packages"
    """Where the weights are: in public packages, or on the Hub and other servers."""
    notes: tuple[str, ...] = field(default=())
    """What is skipped before anything is downloaded, and why."""
    obtain: Callable[[Options], tuple[Content, Convert]] | None = None
    """For the online tier, in place of ``content``: downloads the files and returns networks and parents."""
    expected_bytes: int = 0
    """For the Hub, whose files are not listed here: about how many bytes are downloaded."""

    @property
    def split(self) -> str:
        """Name of the split."""
        return f"{PREFIX}{self.name}"

    def missing_libraries(self) -> list[str]:
        """Returns the libraries that its readers need and that are not installed."""
        return [library for library in self.libraries if importlib.util.find_spec(library) is None]

    @property
    def bytes(self) -> int:
        """Size of all downloads in bytes."""
        return self.expected_bytes or sum(archive.bytes for archive in self.archives)
