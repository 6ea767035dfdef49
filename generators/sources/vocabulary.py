"""The 256 bytes in the vocabulary of a real language model."""

from collections.abc import Mapping
from pathlib import Path

from mothr.benchmark.errors import MothrError

LEAST = 128
"""Bytes that must be there: all of ASCII but rare control characters, and what continues a character of UTF-8."""
FILLERS = ("<unk>", "<|endoftext|>", "</s>", "<s>")
"""Tokens that stand for a byte that is missing: one that no text in UTF-8 holds, or a control character."""


def byte_rows(tokens: Mapping[str, int], where: Path) -> list[int]:
    """Returns for each of the 256 bytes the number of the token that stands for it alone.

    Two spellings are known: byte-level vocabularies (GPT-2, Radford et al. 2019) write a byte as one printable character,
    SentencePiece's byte fallback as ``<0x41>``.

    Raises:
        MothrError: the vocabulary of ``where`` has no tokens for single bytes.
    """
    fallback = [tokens.get(f"<0x{byte:02X}>") for byte in range(256)]
    found = fallback if None not in fallback else [tokens.get(character) for character in _characters()]
    filler = next((tokens[name] for name in FILLERS if name in tokens), 0)
    rows = [filler if row is None else row for row in found]
    missing = [byte for byte, row in enumerate(found) if row is None]
    if len(missing) > 256 - LEAST or any(byte in missing for byte in b"\n abcdefghijklmnopqrstuvwxyz0123456789"):
        raise MothrError(
            f"{where}: this vocabulary has no tokens for {len(missing)} of the 256 bytes; the family llama reads bytes alone"
        )
    return rows


def _characters() -> list[str]:
    """Returns the character that stands for each byte in a byte-level vocabulary: itself if it is printable, else one from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    found, beyond = [], 256
    for byte in range(256):
        found.append(chr(byte) if byte in printable else chr(beyond))
        beyond += byte not in printable
    return found
