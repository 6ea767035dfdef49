"""Finds the tokens of the 256 bytes in the vocabulary of a real language model."""

from collections.abc import Mapping
from pathlib import Path

from mothr.benchmark.errors import MothrError

LEAST = 128
"""Smallest number of bytes with a token: ASCII without rare control characters, and the continuation bytes of
UTF-8."""
FILLERS = ("<unk>", "<|endoftext|>", "</s>", "<s>")
"""Tokens used for a byte without a token: a byte that never occurs in UTF-8, or a control character."""


def byte_rows(tokens: Mapping[str, int], path: Path) -> list[int]:
    """Returns, for each of the 256 bytes, the number of the token that stands for this byte only.

    Two spellings are supported. Byte-level vocabularies (GPT-2, Radford et al. 2019) write a byte as one
    printable character. SentencePiece's byte fallback writes it as ``<0x41>``.

    Raises:
        MothrError: the vocabulary in ``path`` has no tokens for single bytes.
    """
    fallback = [tokens.get(f"<0x{byte:02X}>") for byte in range(256)]
    candidates = fallback if None not in fallback else [tokens.get(character) for character in _characters()]
    filler = next((tokens[name] for name in FILLERS if name in tokens), 0)
    rows = [filler if row is None else row for row in candidates]
    missing = [byte for byte, row in enumerate(candidates) if row is None]
    if len(missing) > 256 - LEAST or any(byte in missing for byte in b"\n abcdefghijklmnopqrstuvwxyz0123456789"):
        raise MothrError(
            f"{path}: this vocabulary has no tokens for {len(missing)} of the 256 bytes, "
            "and the family llama reads single bytes; choose another model"
        )
    return rows


def _characters() -> list[str]:
    """Returns the character of each byte in a byte-level vocabulary: the byte itself if it is printable,
    otherwise one from code 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    characters, next_code = [], 256
    for byte in range(256):
        characters.append(chr(byte) if byte in printable else chr(next_code))
        next_code += byte not in printable
    return characters
