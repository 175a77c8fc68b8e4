"""A small store of Prometheus series, cheap to count in and rendered in slices.

It has no locks: values change, and are rendered, on the event loop's thread alone. A slice is made
in one go, so the lines of one histogram always agree; other values may move between two slices.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from sys import intern
from typing import Any, Generic, TypeVar

_LABELS = "\0"
"""Where a child's labels go in the text that all children of a histogram share."""

Values = tuple[str, ...]


class Child:
    """One series of a family: its label values, and their text."""

    __slots__ = ("family", "labels", "values")

    def __init__(self, family: "Family[Any]", values: Values, labels: str) -> None:
        self.family = family
        self.values = values
        self.labels = labels


class ScalarSeries(Child):
    """One number."""

    __slots__ = ("value",)

    def __init__(self, family: "Family[Any]", values: Values, labels: str) -> None:
        super().__init__(family, values, labels)
        self.value = 0.0


class CounterSeries(ScalarSeries):
    """A number that only grows."""

    __slots__ = ()

    def inc(self, amount: float = 1.0) -> None:
        """Raises ValueError for a negative amount."""
        if amount < 0:
            raise ValueError(f"{self.family.name}: a counter cannot grow by {amount}")
        self.value += amount


class GaugeSeries(ScalarSeries):
    """A number that goes up and down."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Takes the new value."""
        self.value = value

    def inc(self, amount: float = 1.0) -> None:
        """Adds to it."""
        self.value += amount

    def dec(self, amount: float = 1.0) -> None:
        """Takes from it."""
        self.value -= amount


class HistogramSeries(Child):
    """How often a value fell between each two bounds, and the sum of all values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, family: "HistogramFamily", values: Values, labels: str) -> None:
        super().__init__(family, values, labels)
        self.bounds = family.bounds
        self.counts = [0] * (len(family.bounds) + 1)
        """Observations in each bucket alone; the last one is beyond all bounds."""
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Takes `count` observations of the same value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count


class SummarySeries(Child):
    """The number of values, and their sum."""

    __slots__ = ("count", "sum")

    def __init__(self, family: "Family[SummarySeries]", values: Values, labels: str) -> None:
        super().__init__(family, values, labels)
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Takes one value."""
        self.count += 1
        self.sum += value


class Owner:
    """Whoever its series' first labels name: all of them, and when there was traffic last."""

    __slots__ = ("active", "children", "last_s")

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.active = True
        """To be set at traffic: cheaper than to ask for the time."""
        self.last_s = 0.0
        """When whoever prunes last found it active, which a new one is; then `active` is unset."""


ChildT = TypeVar("ChildT", bound=Child)
ScalarT = TypeVar("ScalarT", bound=ScalarSeries)


class Family(ABC, Generic[ChildT]):
    """All series of one metric. One without labels has its only series from the start."""

    kind = ""

    def __init__(self, series: "Series", name: str, help_text: str, names: Sequence[str]) -> None:
        self.name = name
        self.label_names = tuple(names)
        self.header = f"# HELP {name} {_escape(help_text)}\n# TYPE {name} {self.kind}\n"
        self._series = series
        self._children: dict[Values, ChildT] = {}
        if not self.label_names:
            self.labels()

    def labels(self, *values: str) -> ChildT:
        """The series with these label values, made where it is missing.

        Raises ValueError where their number is not that of the labels.
        """
        child = self._children.get(values)
        return self._add(values) if child is None else child

    def remove(self, *values: str) -> None:
        """Removes one series, if it is there."""
        child = self._children.pop(values, None)
        if child is not None:
            self._series.disown(child)

    def children(self) -> list[ChildT]:
        """Its series as of now."""
        return list(self._children.values())

    def _add(self, values: Values) -> ChildT:
        if len(values) != len(self.label_names):
            raise ValueError(
                f"{self.name} has the labels {self.label_names}, not {len(values)} of them"
            )
        pairs = zip(self.label_names, values, strict=True)
        text = ",".join(f'{name}="{_escape_value(value)}"' for name, value in pairs)
        # Most families have the same labels, so one text serves all of a call's series.
        child = self._children[values] = self._make(values, intern(text))
        self._series.own(child)
        return child

    @abstractmethod
    def _make(self, values: Values, labels: str) -> ChildT:
        """A new series, at zero."""

    @abstractmethod
    def text(self, children: Iterable[ChildT]) -> str:
        """The lines of some of its series."""


class ScalarFamily(Family[ScalarT]):
    """Counters or gauges."""

    def text(self, children: Iterable[ScalarT]) -> str:
        """One line each."""
        before, after = (f"{self.name}{{", "} ") if self.label_names else (f"{self.name} ", "")
        return "".join(
            [f"{before}{child.labels}{after}{_number(child.value)}\n" for child in children]
        )


class CounterFamily(ScalarFamily[CounterSeries]):
    """Counters."""

    kind = "counter"

    def _make(self, values: Values, labels: str) -> CounterSeries:
        return CounterSeries(self, values, labels)


class GaugeFamily(ScalarFamily[GaugeSeries]):
    """Gauges."""

    kind = "gauge"

    def _make(self, values: Values, labels: str) -> GaugeSeries:
        return GaugeSeries(self, values, labels)


class HistogramFamily(Family[HistogramSeries]):
    """Histograms with the same bounds."""

    kind = "histogram"

    def __init__(
        self,
        series: "Series",
        name: str,
        help_text: str,
        names: Sequence[str],
        bounds: Sequence[float],
    ) -> None:
        """Raises ValueError where the bounds do not rise."""
        self.bounds = tuple(map(float, bounds))
        if not self.bounds or any(low >= high for low, high in pairwise(self.bounds)):
            raise ValueError(f"{name}: bounds must rise, these do not: {self.bounds}")
        self._template = _histogram_template(name, self.bounds, has_labels=bool(names))
        super().__init__(series, name, help_text, names)

    def _make(self, values: Values, labels: str) -> HistogramSeries:
        return HistogramSeries(self, values, labels)

    def text(self, children: Iterable[HistogramSeries]) -> str:
        """Those without observations have no lines."""
        template = self._template
        parts = []
        for child in children:
            upto = tuple(accumulate(child.counts))
            if total := upto[-1]:
                lines = template % (*upto, _number(child.sum), total)
                parts.append(lines.replace(_LABELS, child.labels))
        return "".join(parts)


class SummaryFamily(Family[SummarySeries]):
    """Summaries without quantiles."""

    kind = "summary"

    def _make(self, values: Values, labels: str) -> SummarySeries:
        return SummarySeries(self, values, labels)

    def text(self, children: Iterable[SummarySeries]) -> str:
        parts = []
        for child in children:
            labels = f"{{{child.labels}}}" if child.labels else ""
            parts.append(f"{self.name}_count{labels} {child.count}\n")
            parts.append(f"{self.name}_sum{labels} {_number(child.sum)}\n")
        return "".join(parts)


FamilyT = TypeVar("FamilyT", bound=Family[Any])


class Series:
    """The families of one process, and whose their series are.

    owner_labels: the labels that name an owner. Series of families whose labels begin with them
    belong to the owner they name, and can be removed together.
    """

    def __init__(self, owner_labels: Sequence[str] = ()) -> None:
        self._owner_labels = tuple(owner_labels)
        self._families: dict[str, Family[Any]] = {}
        self._owners: dict[Values, Owner] = {}

    def counter(self, name: str, help_text: str, labels: Sequence[str]) -> Family[CounterSeries]:
        """A new family of counters; the name ends in `_total`."""
        return self._add(CounterFamily(self, name, help_text, labels))

    def gauge(self, name: str, help_text: str, labels: Sequence[str]) -> Family[GaugeSeries]:
        """A new family of gauges."""
        return self._add(GaugeFamily(self, name, help_text, labels))

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Family[HistogramSeries]:
        """A new family of histograms. buckets: their upper bounds, rising, without infinity."""
        return self._add(HistogramFamily(self, name, help_text, labels, buckets))

    def summary(self, name: str, help_text: str, labels: Sequence[str]) -> Family[SummarySeries]:
        """A new family of summaries."""
        return self._add(SummaryFamily(self, name, help_text, labels))

    @property
    def families(self) -> tuple[Family[Any], ...]:
        """In the order in which they were made."""
        return tuple(self._families.values())

    def owner(self, *values: str) -> Owner:
        """What is kept of an owner, from now on where nothing was."""
        owner = self._owners.get(values)
        if owner is None:
            owner = self._owners[values] = Owner()
        return owner

    def owners(self) -> list[tuple[Values, Owner]]:
        """All owners as of now."""
        return list(self._owners.items())

    def forget(self, *values: str) -> None:
        """Removes an owner with all its series."""
        owner = self._owners.pop(values, None)
        if owner is not None:
            for child in owner.children:
                del child.family._children[child.values]

    def own(self, child: Child) -> None:
        """Gives a new series to its owner, if its family has owners."""
        if owner := self._owner_of(child):
            self.owner(*owner).children.append(child)

    def disown(self, child: Child) -> None:
        """Takes a removed series from its owner."""
        if owner := self._owner_of(child):
            self.owner(*owner).children.remove(child)

    def render(self, slice_series: int = 64) -> Iterator[bytes]:
        """The series in the text format 0.0.4, slice by slice; values as of each slice.

        slice_series: how many are looked at for a slice. It can be empty, where these are
        histograms without observations.
        """
        room = slice_series
        parts: list[str] = []
        for family in self.families:
            parts.append(family.header)
            children = family.children()
            done = 0
            while done < len(children):
                some = children[done : done + room]
                parts.append(family.text(some))
                done += len(some)
                room -= len(some)
                if not room:
                    yield "".join(parts).encode()
                    parts.clear()
                    room = slice_series
        if parts:
            yield "".join(parts).encode()

    def _add(self, family: FamilyT) -> FamilyT:
        if family.name in self._families:
            raise ValueError(f"there is a metric {family.name} already")
        self._families[family.name] = family
        return family

    def _owner_of(self, child: Child) -> Values | None:
        count = len(self._owner_labels)
        owned = count and child.family.label_names[:count] == self._owner_labels
        return child.values[:count] if owned else None


def _histogram_template(name: str, bounds: Sequence[float], *, has_labels: bool) -> str:
    """All lines of one histogram, with a place for each bucket's count, the sum and the count."""
    others = f"{_LABELS}," if has_labels else ""
    labels = f"{{{_LABELS}}}" if has_labels else ""
    limits = [*map(_number, bounds), "+Inf"]
    lines = [f'{name}_bucket{{{others}le="{limit}"}} %d\n' for limit in limits]
    return "".join((*lines, f"{name}_sum{labels} %s\n", f"{name}_count{labels} %d\n"))


def _number(value: float) -> str:
    text = repr(value)
    # Only `inf`, `-inf` and `nan` end in a letter.
    return text if text[-1] <= "9" else _SPECIAL[text]


_SPECIAL = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', r"\"")
