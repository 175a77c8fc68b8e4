"""A row a request, kept compactly: for comparing runs, and for plots of single requests."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from loadtest.samples import Outcome, Phase, Sample
from loadtest.statistics.latencies import latencies
from loadtest.statistics.units import StatisticsError

MOST_ROWS = 50_000
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
PHASES: tuple[Phase, ...] = get_args(Phase)
OTHER = "(other)"
"""The name of tenants and models beyond the first 65,535."""

Table = NDArray[np.void]

ROW = np.dtype(
    [
        ("index", "<i8"),
        ("intended_s", "<f8"),
        ("sent_s", "<f8"),
        ("ended_s", "<f8"),
        ("ttft_s", "<f4"),
        ("itl_s", "<f4"),
        ("tpot_s", "<f4"),
        ("e2e_s", "<f4"),
        ("prompt_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("tenant", "<u2"),
        ("model", "<u2"),
        ("outcome", "<u1"),
        ("phase", "<u1"),
        ("cold_start", "?"),
    ]
)
"""Times that never came and figures that a request lacks are NaN, unknown token counts -1;
`tenant` and `model` are places in the lists of names, `outcome` in OUTCOMES, `phase` in PHASES.
`itl_s` is the mean gap."""

_FORMAT = 1
_NAMES = 2**16 - 1


class Rows:
    """At most `most` rows, of all phases; memory for twice as many.

    Beyond `most` they are a sample: the requests whose index, scrambled with `seed`, comes lowest.
    Each request is as likely to be kept as any other, several processes' samples together are a
    sample again, and two runs of one schedule keep the same requests, so that they stay pairs.
    """

    def __init__(self, most: int = MOST_ROWS, *, seed: int = 0) -> None:
        self.most = most
        self.seed = seed
        self.seen = 0
        self.tenants = Names()
        self.models = Names()
        self._table = np.zeros(2 * most, ROW)
        self._held = 0

    def add(self, sample: Sample) -> None:
        if self._held == len(self._table):
            self._thin()
        of = latencies(sample)
        self._table[self._held] = (
            sample.index,
            sample.intended_s,
            _or_nan(sample.sent_s),
            _or_nan(sample.ended_s),
            _or_nan(of.ttft_s),
            _or_nan(of.itl_s),
            _or_nan(of.tpot_s),
            _or_nan(of.e2e_s),
            -1 if sample.prompt_tokens is None else sample.prompt_tokens,
            -1 if sample.output_tokens is None else sample.output_tokens,
            self.tenants.place(sample.tenant),
            self.models.place(sample.model),
            OUTCOMES.index(sample.outcome),
            PHASES.index(sample.phase),
            sample.cold_start,
        )
        self._held += 1
        self.seen += 1

    def merge(self, other: "Rows") -> None:
        """Adds another process's rows of the same run. Raises ValueError where they do not fit."""
        if (other.most, other.seed) != (self.most, self.seed):
            raise ValueError("rows of another size or seed do not make one sample")
        theirs = other.table()
        for names, name in ((self.tenants, "tenant"), (self.models, "model")):
            listed = other.tenants if name == "tenant" else other.models
            places = np.array([names.place(one) for one in listed.listed] or [0], np.uint16)
            theirs[name] = places[theirs[name]]
        self._thin()
        self._table[self._held : self._held + len(theirs)] = theirs
        self._held += len(theirs)
        self.seen += other.seen

    @property
    def sampled(self) -> bool:
        """Whether some requests are left out."""
        return self.seen > self.most

    def table(self) -> Table:
        """The rows kept, by index; a copy."""
        self._thin()
        kept = self._table[: self._held]
        return kept[np.argsort(kept["index"], kind="stable")]

    def _thin(self) -> None:
        if self._held <= self.most:
            return
        order = scrambled(self._table["index"][: self._held], self.seed)
        lowest = np.argpartition(order, self.most)[: self.most]
        self._table[: self.most] = self._table[lowest]
        self._held = self.most


class Names:
    """Names by their place in a list, at most as many as a row's two bytes can tell."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        place = self._places.get(name)
        if place is None:
            if len(self.listed) >= _NAMES:
                return self._place_of_others()
            place = self._places[name] = len(self.listed)
            self.listed.append(name)
        return place

    def _place_of_others(self) -> int:
        if len(self.listed) == _NAMES:
            self.listed.append(OTHER)
        return _NAMES


def scrambled(indexes: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each index that looks random and depends on nothing else: SplitMix64."""
    with np.errstate(over="ignore"):
        z = indexes.astype(np.uint64) + np.uint64(seed % 2**32) * np.uint64(0xD1B54A32D192ED03)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def pack(rows: Rows) -> dict[str, Any]:
    """The rows for a JSON file: the table by columns, deflated, as base64."""
    table = rows.table()
    columns = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in ROW.names or ())
    return {
        "format": _FORMAT,
        "columns": [[name, ROW[name].str] for name in ROW.names or ()],
        "rows": len(table),
        "of_requests": rows.seen,
        "tenants": list(rows.tenants.listed),
        "models": list(rows.models.listed),
        "data": base64.b64encode(zlib.compress(columns, 6)).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> Table:
    """The table that `pack` packed. Raises StatisticsError where it is damaged or another's."""
    if packed.get("format") != _FORMAT:
        raise StatisticsError(
            f"rows: format {packed.get('format')} is not {_FORMAT}; run the load test again"
        )
    try:
        count = int(packed["rows"])
        # Not a byte more than the table needs, whatever the file holds.
        opened = zlib.decompressobj()
        data = opened.decompress(base64.b64decode(packed["data"]), count * ROW.itemsize + 1)
        if len(data) != count * ROW.itemsize:
            raise ValueError("it is not as long as it says")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise StatisticsError(f"rows: the file is damaged ({error})") from error
    table, begin = np.zeros(count, ROW), 0
    for name in ROW.names or ():
        size = ROW[name].itemsize * count
        table[name] = np.frombuffer(data[begin : begin + size], ROW[name])
        begin += size
    return table


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
