"""Pure: an estimate of the number of different names, in a sketch of a fixed size.

HyperLogLog (Flajolet et al. 2007), with linear counting for few. Two sketches merge by the larger
of each register, so order, copies and the split over replicas change nothing. No recipient can be
read out of a sketch, so no recipient has to be deleted from it.
"""

import math
from collections.abc import Iterable
from hashlib import blake2b

BITS = 8
REGISTERS = 1 << BITS  # one byte each; the standard error is 1.04 / sqrt(256) = 6.5 %
HASH_BITS = 64
EMPTY = bytes(REGISTERS)

_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)  # Flajolet et al., figure 3
_FEW = 2.5 * REGISTERS  # up to here linear counting errs less (the same place)
# Each empty register adds 1 to the sum that the estimate is divided by: with so many it is not more
# than _FEW, whatever the others hold.
_SURELY_FEW = math.ceil(_ALPHA * REGISTERS**2 / _FEW)
_SHARES = tuple(2.0**-rank for rank in range(HASH_BITS - BITS + 2))  # of a register in that sum


def hashed(name: str) -> int:
    """Return the hash of a name, always the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=HASH_BITS // 8).digest())


def merge(sketch: bytes, hashes: Iterable[int]) -> bytes:
    """Return a sketch with these hashes added, of HASH_BITS uniform bits each."""
    registers = bytearray(sketch)
    for number in hashes:
        register, rest = number & (REGISTERS - 1), number >> BITS
        rank = HASH_BITS - BITS - rest.bit_length() + 1
        registers[register] = max(registers[register], rank)
    return bytes(registers)


def estimate(sketch: bytes) -> int:
    """Return about how many different hashes were added."""
    empty = sketch.count(0)
    if empty >= _SURELY_FEW:
        return _linear(empty)
    raw = _ALPHA * REGISTERS**2 / sum(map(_SHARES.__getitem__, sketch))
    return _linear(empty) if raw <= _FEW and empty else round(raw)


def _linear(empty: int) -> int:
    return round(REGISTERS * math.log(REGISTERS / empty))
