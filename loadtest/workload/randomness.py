"""Seeded random numbers: a stream of its own for every concern, the same on every machine.

Of `random.Random` only `random()` is used, whose sequence Python promises to keep.
"""

import hashlib
import math
from random import Random

from loadtest.workload.portable import exp, log

_NORMAL_SQUEEZE = 0.0331


def stream(seed: int, *concern: str | int) -> Random:
    """The numbers of one concern, as `stream(7, "models")`: no other concern shifts them."""
    return Random(_name(seed, concern))


def noise(size: int, seed: int, *concern: str | int) -> bytes:
    """`size` random bytes of one concern: to be had for any item without those before it."""
    return hashlib.shake_128(_name(seed, concern).encode()).digest(size)


def exponential(rng: Random) -> float:
    """Of mean 1."""
    return -log(1 - rng.random())


def normal(rng: Random) -> float:
    """Of mean 0 and standard deviation 1 (Marsaglia's polar method)."""
    while True:
        x = 2 * rng.random() - 1
        y = 2 * rng.random() - 1
        square = x * x + y * y
        if 0 < square < 1:
            return x * math.sqrt(-2 * log(square) / square)


def gamma(rng: Random, shape: float) -> float:
    """Of the given shape and scale 1, so of mean `shape` (Marsaglia and Tsang, 2000)."""
    if shape < 1:
        # A gamma of shape + 1, times a uniform to the power of 1 / shape.
        return gamma(rng, shape + 1) * exp(log(1 - rng.random()) / shape)
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal(rng)
        root = 1 + c * x
        if root <= 0:
            continue
        v = root * root * root
        u = 1 - rng.random()
        square = x * x
        if u < 1 - _NORMAL_SQUEEZE * square * square:
            return d * v
        if log(u) < square / 2 + d * (1 - v + log(v)):
            return d * v


def _name(seed: int, concern: tuple[str | int, ...]) -> str:
    return ":".join(map(str, ("loadtest", seed, *concern)))
