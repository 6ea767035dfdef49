"""Reads checkpoints of PyTorch, by ``torch.load`` with ``weights_only=True``, and files of safetensors."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.real.readers.tensors import Tensors, damaged, only_file


class Inert:
    """An object of a package in a checkpoint. It stores nothing and does nothing.

    ``weights_only`` refuses classes that it does not know. A checkpoint that holds settings beside its
    weights can be read if each of their classes is replaced by this one. No code of the package is run.
    """

    def __init__(self, *values: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True, slots=True)
class TorchCheckpoint:
    """Reads the weights of one checkpoint of PyTorch."""

    keys: Sequence[str] = ("state_dict",)
    """Where the weights are: the keys from the outermost dictionary inwards."""
    inert: Sequence[str] = ()
    """Dotted names of classes whose objects are ignored."""
    dictionaries: Sequence[str] = ()
    """Dotted names of classes that are read as ordinary dictionaries."""

    def __call__(self, files: Mapping[str, bytes], name: str) -> Tensors:
        """Returns the floating-point tensors of the checkpoint.

        Raises:
            MothrError: the file is damaged, or it holds objects that ``weights_only`` refuses.
        """
        replaced: list[Any] = [(type("Inert", (Inert,), {}), dotted) for dotted in self.inert]
        replaced += [(OrderedDict, dotted) for dotted in self.dictionaries]
        content = only_file(files, name)
        try:
            with torch.serialization.safe_globals(replaced):
                value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            reason = next((line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
            raise damaged(name, f"weights_only refuses it ({reason or type(error).__name__})") from None
        except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise damaged(name, f"torch cannot read it ({reason})") from None
        for key in self.keys:
            if not isinstance(value, Mapping) or key not in value:
                raise damaged(name, f"has no {key!r}")
            value = value[key]
        if not isinstance(value, Mapping):
            raise damaged(name, "holds no dictionary of tensors")
        # A copy, since a stored tensor can be a view of a larger one.
        tensors = {
            str(key): tensor.detach().clone()
            for key, tensor in value.items()
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        }
        if not tensors:
            raise damaged(name, "holds no floating-point tensors")
        return tensors


STATES = ("params_ema", "params", "state_dict", "model_state_dict", "model")
"""Keys under which trainers of super-resolution models store the weights, the preferred first."""


def read_state(files: Mapping[str, bytes], name: str) -> Tensors:
    """Returns the floating-point tensors of a checkpoint, which holds them itself or under one of :data:`STATES`.

    Raises:
        MothrError: as :class:`TorchCheckpoint`.
    """
    try:
        return TorchCheckpoint(())(files, name)
    except MothrError as error:
        if "no floating-point tensors" not in str(error):
            raise
    for key in STATES:
        try:
            return TorchCheckpoint((key,))(files, name)
        except MothrError as error:
            if f"has no {key!r}" not in str(error):
                raise
    raise damaged(name, f"holds no weights, neither itself nor under {', '.join(STATES)}")


def read_safetensors(files: Mapping[str, bytes], name: str) -> Tensors:
    """Returns the floating-point tensors of a safetensors file.

    Raises:
        MothrError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(only_file(files, name))
    except (SafetensorError, ValueError) as error:
        raise damaged(name, f"safetensors cannot read it ({error})") from None
    return {key: tensor for key, tensor in tensors.items() if tensor.is_floating_point()}


@dataclass(frozen=True, slots=True)
class InZip:
    """Reads the weights of a file inside a zip file that is itself inside an archive."""

    member: str
    """Path in the inner zip file."""

    def __call__(self, files: Mapping[str, bytes], name: str) -> Tensors:
        """Returns the tensors of the safetensors file.

        Raises:
            MothrError: the zip file is damaged, or it lacks the file.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(only_file(files, name))) as archive:
                return read_safetensors({self.member: archive.read(self.member)}, name)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise damaged(name, f"is not a zip file with {self.member} ({error})") from None
