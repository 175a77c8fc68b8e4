"""Logarithm and exponential that give the same bits on every machine.

The C library's may differ in the last bit from one system to the next, and a schedule must not.
These use only operations whose rounding IEEE 754 fixes: + - * / and scaling by powers of two.
Their results are within 3 units in the last place. For the same reason nothing here calls `sum`
on floats, which adds otherwise since Python 3.12, or `**`.
"""

import math

_LN2_HIGH = 0.6931471803691238
"""ln 2 with its last 21 bits zero, so that a whole number of up to 21 bits times it is exact."""
_LN2_LOW = 1.9082149292705877e-10
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_LOG_SERIES = tuple(1 / (2 * k + 1) for k in range(10, -1, -1))
_EXP_SERIES = tuple(1 / math.factorial(k) for k in range(13, -1, -1))
_LARGEST = 709.0
_SMALLEST = -745.0


def log(x: float) -> float:
    """The natural logarithm of a positive number."""
    fraction, exponent = math.frexp(x)
    if fraction < _SQRT_HALF:
        fraction *= 2
        exponent -= 1
    s = (fraction - 1) / (fraction + 1)
    z = s * s
    series = 0.0
    for factor in _LOG_SERIES:
        series = series * z + factor
    return exponent * _LN2_HIGH + (exponent * _LN2_LOW + 2 * s * series)


def exp(x: float) -> float:
    """e to the power of x; x up to 709. Raises OverflowError above."""
    if x > _LARGEST:
        raise OverflowError(f"exp({x}) is out of range")
    if x < _SMALLEST:
        return 0.0
    twos = round(x / _LN2)
    rest = (x - twos * _LN2_HIGH) - twos * _LN2_LOW
    series = 0.0
    for factor in _EXP_SERIES:
        series = series * rest + factor
    return math.ldexp(series, twos)
