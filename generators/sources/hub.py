"""Reads models from the Hub: their current revision, and a snapshot of the files that are needed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mothr.benchmark.errors import MothrError

FILES = ("config.json", "tokenizer.json", "*.safetensors", "model.safetensors.index.json")
"""Files that are downloaded; no others, and never pickles."""


def latest_revision(model: str) -> str:
    """Returns the commit, 40 hex digits, of the current state of ``model`` on the Hub.

    Raises:
        MothrError: the Hub cannot be reached, or it has no such model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return str(HfApi().model_info(model).sha)
    except RepositoryNotFoundError:
        raise MothrError(f"{model}: the Hub has no such model, or it is private; check source.hub") from None
    except Exception as error:  # offline mode, name resolution and HTTP have error classes of their own
        raise MothrError(
            f"{model}: the Hub cannot be asked for its revision ({_first_line(error)}); this needs the network"
        ) from None


def snapshot(model: str, revision: str, label: str, files: Sequence[str] = FILES) -> Path:
    """Returns a folder with the files of ``model`` at ``revision``: from the local cache, or downloaded.

    Args:
        model: Id on the Hub.
        revision: Commit, 40 hex digits.
        label: Name of the model in error messages.
        files: Patterns of the files that are downloaded.

    Raises:
        MothrError: the model is absent, needs a login, or cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    options: dict[str, Any] = {"repo_id": model, "revision": revision, "allow_patterns": list(files)}
    try:
        try:
            return Path(snapshot_download(**options, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(**options))
    except GatedRepoError:
        raise MothrError(
            f"{label}: its owner asks for a login; accept the terms on its page, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise MothrError(f"{label}: the Hub has no such model, or it is private; check source.hub") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
        reason = "HF_HUB_OFFLINE is set" if offline else _first_line(error)
        raise MothrError(
            f'{label}: needs the network ({reason}); download it elsewhere and give its folder instead: source = {{ folder = "..." }}'
        ) from None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
