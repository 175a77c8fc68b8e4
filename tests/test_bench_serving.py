"""What the benchmarks on real engines share: made adapters, memory, a window of load."""

import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapters_registry.manifest import check_adapter
from benchmarks.serving.made import make_adapter
from benchmarks.serving.rss import pss_bytes
from benchmarks.serving.window import (
    WindowFailed,
    figures,
    load,
    models_of,
    request_kind,
    shown,
)
from loadtest.samples import Sample
from tests.adapters_for_tests import tiny_base
from tests.fake_engine import FakeEngine


def test_a_made_adapter_is_taken_and_each_is_another(tmp_path: Path) -> None:
    base = tiny_base()
    made = [make_adapter(tmp_path / str(n), base, rank=4, seed=n) for n in (0, 1)]
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in made)
    for folder in made:
        assert check_adapter(folder, base, 4).warnings == ()
    for name, tensor in one.items():
        assert np.abs(tensor).mean() > 0.01
        assert not np.array_equal(tensor, other[name])


def test_memory_counts_a_shared_page_once(tmp_path: Path) -> None:
    for pid, kib in ((7, 1000), (8, 24)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"Rss: 9999 kB\nPss:  {kib} kB\n")
    assert pss_bytes([7, 8, 9], tmp_path) == 1024 * 1024


def workload(requests: int, *named: tuple[str, str | None]) -> dict[str, object]:
    return {
        "requests": requests,
        "arrivals": {"kind": "closed", "stages": [{"users": 2}]},
        "mix": request_kind(4, 3),
        "model_choice": "round_robin",
        **models_of(named),
    }


def test_a_window_sends_what_was_asked_and_keeps_its_figures(fake_engine: FakeEngine) -> None:
    samples: list[Sample] = []
    asked = workload(6, ("base", "one"), ("base", "two"))
    keys = {"one": "key-of-one", "two": "key-of-two"}
    found = figures(*load(asked, fake_engine.url, keys, each=samples.append))
    assert (found.sent, found.ok, found.failed, found.cold_starts) == (6, 6, 0, 0)
    assert found.tokens_per_s == pytest.approx(3 * found.requests_per_s)
    assert {one.tenant for one in samples} == {"one", "two"}
    sent = [call["headers"]["authorization"] for call in fake_engine.state()["calls"]]
    assert {*sent} == {"Bearer key-of-one", "Bearer key-of-two"}


def test_a_window_leaves_the_signals_as_they_were(fake_engine: FakeEngine) -> None:
    """The tester takes them for itself, and a kill must still end the benchmark in order."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        load(workload(1, ("base", None)), fake_engine.url, {})
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_window_without_an_answer_says_why(fake_engine: FakeEngine) -> None:
    with pytest.raises(WindowFailed, match="has no model `unknown`"):
        load(workload(6, ("unknown", None)), fake_engine.url, {})


def test_figures_that_are_not_there_are_a_dash() -> None:
    assert (shown(None), shown(1234.5), shown(0.5, "{:.2f}")) == ("-", "1,234", "0.50")
