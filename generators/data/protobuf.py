"""The wire format of Protocol Buffers, as far as reading a few fields of a known message needs it.

ONNX models and TFRecord examples are such messages; this spares two large packages for what takes a page.
"""

import struct
from collections.abc import Iterator

from mothr.benchmark.errors import MothrError


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields each field of a message: its number, and an integer, or the bytes of a string, message, float or packed list.

    Raises:
        MothrError: the bytes are no such message.
    """
    at = 0
    try:
        while at < len(message):
            key, at = _varint(message, at)
            kind = key & 7
            if kind == 0:
                value, at = _varint(message, at)
                yield key >> 3, value
                continue
            if kind == 2:
                size, at = _varint(message, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise MothrError(
                    f"not a message of Protocol Buffers (a field of kind {kind}); the file is damaged or of another format"
                )
            if at + size > len(message):
                raise IndexError
            yield key >> 3, message[at : at + size]
            at += size
    except IndexError:
        raise MothrError(
            "a message of Protocol Buffers ends in the middle; the file is cut short or of another format"
        ) from None


def content(value: int | memoryview) -> memoryview:
    """Returns the bytes of a field.

    Raises:
        MothrError: it is an integer.
    """
    if isinstance(value, int):
        raise MothrError(
            f"not a message of Protocol Buffers as it should be ({value} in place of bytes); the file is damaged"
        )
    return value


def integers(value: int | memoryview) -> list[int]:
    """Returns the integers of a repeated field: one, or, where they are packed, many; negative ones as they were written."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def floats(value: memoryview) -> list[float]:
    """Returns the 32-bit floats of a repeated field, one or many."""
    return [number for (number,) in struct.iter_unpack("<f", value)]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = message[at]
        at += 1
        result |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return result, at


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
