"""Reads the initial memory of a WebAssembly program; nothing of the program is run.

A compiler leaves out runs of zeros, so that a network inside a program is cut into *data segments*. They are put
back to their places (WebAssembly Core Specification, 5.5.14 data section). A segment is *active* if the file
gives its place. The place of a *passive* segment is the first operand of the instruction ``memory.init``.
"""

from mothr.generators.real.readers.tensors import damaged

MAGIC = b"\0asm\1\0\0\0"
"""The first 8 bytes of a program."""
DATA_SECTION = 11
"""Number of the section with the data segments."""
CONST, END, INIT = 0x41, 0x0B, b"\xfc\x08"
"""Instructions: an integer of 32 bits, the end of an expression, ``memory.init``."""
MAX_MEMORY = 1 << 29
"""Largest memory in bytes that is made."""


def initial_memory(content: bytes, name: str) -> bytes:
    """Returns the memory of a program before it starts, up to the last byte that the file sets.

    Raises:
        MothrError: the bytes are not such a program, or they end in the middle.
    """
    if not content.startswith(MAGIC):
        raise damaged(name, "is not a WebAssembly program")
    try:
        segments, code_end = _segments(content)
    except IndexError:
        raise damaged(name, "ends in the middle of a section") from None
    places = [
        (start if place is None else place, begin, size)
        for number, (place, begin, size) in enumerate(segments)
        if (start := _passive_place(content, code_end, number, size) if place is None else 0) is not None
    ]
    total = max((place + size for place, _, size in places), default=0)
    if total > MAX_MEMORY:
        raise damaged(name, f"asks for {total} bytes of memory")
    memory = bytearray(total)
    for place, begin, size in places:
        if begin + size > len(content):
            raise damaged(name, "ends in the middle of a data segment")
        memory[place : place + size] = content[begin : begin + size]
    return bytes(memory)


def _segments(content: bytes) -> tuple[list[tuple[int | None, int, int]], int]:
    """Returns place in the memory (None if passive), place in the file and size of each data segment, and the
    end of the code."""
    position = len(MAGIC)
    while position < len(content):
        section, start = content[position], position
        size, position = _integer(content, position + 1)
        if section != DATA_SECTION:
            position += size
            continue
        count, position = _integer(content, position)
        segments: list[tuple[int | None, int, int]] = []
        for _ in range(count):
            kind, position = _integer(content, position)
            place = None
            if kind == 2:  # names its memory; there is only one
                _, position = _integer(content, position)
            if kind in (0, 2):
                if content[position] != CONST:
                    raise IndexError
                place, position = _integer(content, position + 1)
                if content[position] != END:
                    raise IndexError
                position += 1
            length, position = _integer(content, position)
            segments.append((place, position, length))
            position += length
        return segments, start
    return [], len(content)


def _passive_place(content: bytes, code_end: int, number: int, size: int) -> int | None:
    """Returns the place of a passive segment: ``i32.const place, i32.const 0, i32.const size, memory.init``."""
    operands = bytes([CONST, 0, CONST]) + _signed(size) + INIT + _unsigned(number) + b"\0"
    end = content.find(operands, 0, code_end)
    for start in range(max(end - 6, 0), end - 1):  # an integer of 32 bits has 1 to 5 bytes
        if content[start] == CONST:
            place, after = _integer(content, start + 1)
            if after == end:
                return place
    return None


def _integer(content: bytes, position: int) -> tuple[int, int]:
    """Returns the integer in LEB128 at ``position``, and the position after it."""
    result = shift = 0
    while True:
        byte = content[position]
        position += 1
        result |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:
            return result, position


def _unsigned(number: int) -> bytes:
    """Returns ``number`` in LEB128."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _signed(number: int) -> bytes:
    """Returns a positive ``number`` in signed LEB128: the last byte must not look negative."""
    encoded = _unsigned(number)
    return encoded if encoded[-1] < 64 else bytes([*encoded[:-1], encoded[-1] | 128, 0])
