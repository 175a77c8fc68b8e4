"""Values drawn with characters: bars, and lines of small ones."""

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_STEPS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int) -> str:
    """A bar of `width` characters, filled by a share from 0 to 1."""
    full, rest = divmod(round(min(max(share, 0.0), 1.0) * width * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float | None]) -> str:
    """A character a value, by its share of the greatest; a space where there is none."""
    most = max((one for one in values if one is not None), default=0.0)
    top = len(_STEPS) - 1
    return "".join(
        " " if one is None else _STEPS[round(one / most * top) if most else 0] for one in values
    )
