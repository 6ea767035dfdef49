"""Reads fields of Protocol Buffers messages.

ONNX models and TFRecord examples are such messages. This short file replaces two large packages.
"""

from collections.abc import Iterator

from mothr.benchmark.errors import MothrError


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields each field of a message: its number, and an integer, or the bytes of a string, message, float or
    packed list.

    Raises:
        MothrError: the bytes are not such a message.
    """
    position = 0
    try:
        while position < len(message):
            key, position = _varint(message, position)
            kind = key & 7
            if kind == 0:
                value, position = _varint(message, position)
                yield key >> 3, value
                continue
            if kind == 2:
                size, position = _varint(message, position)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise MothrError(
                    f"not a message of Protocol Buffers (a field of kind {kind}); the file is damaged or of another format"
                )
            if position + size > len(message):
                raise IndexError
            yield key >> 3, message[position : position + size]
            position += size
    except IndexError:
        raise MothrError(
            "a message of Protocol Buffers ends in the middle; the file is cut short or of another format"
        ) from None


def content(value: int | memoryview) -> memoryview:
    """Returns the bytes of a field.

    Raises:
        MothrError: the field is an integer.
    """
    if isinstance(value, int):
        raise MothrError(
            f"not a message of Protocol Buffers as it should be ({value} in place of bytes); the file is damaged"
        )
    return value


def integers(value: int | memoryview) -> list[int]:
    """Returns the integers of a repeated field: one, or many if they are packed. Negative integers are
    decoded as such."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return numbers


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns the variable-length integer at ``position``, and the position after it."""
    result = shift = 0
    while True:
        byte = message[position]
        position += 1
        result |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return result, position


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
