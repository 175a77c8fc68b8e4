"""The same samples by the definitions of vLLM, guidellm and aiperf."""

import numpy as np
import pytest

from loadtest.samples import Sample
from loadtest.statistics.figures import Figures
from loadtest.statistics.peers import as_aiperf, as_guidellm, as_vllm
from tests.load_engines import failed, sample


def figures_of(*samples: Sample) -> Figures:
    made = Figures()
    for one in samples:
        made.add(one)
    return made


def streams() -> list[Sample]:
    """Two answers sent 0.1 s late: 11 tokens in 0.5 s, and 3 tokens in 0.3 s."""
    short = sample(
        1,
        1.0,
        sent_s=1.1,
        first_token_s=1.5,
        last_token_s=1.8,
        ended_s=2.0,
        gaps=np.array([0.1, 0.2]),
        events=3,
        output_tokens=3,
    )
    return [sample(0, 0.0, sent_s=0.1), short, failed(2, 1.5)]


def test_the_same_samples_by_vllms_definitions() -> None:
    figures = figures_of(*streams())
    told = as_vllm(figures.all, figures.peers)
    assert told.completed == 2
    assert told.ttft_s.mean == pytest.approx((0.1 + 0.4) / 2)
    assert told.tpot_s.mean == pytest.approx((0.5 / 10 + 0.3 / 2) / 2)
    assert told.itl_s.mean == pytest.approx((0.5 + 0.3) / 12)
    assert told.e2el_s.mean == pytest.approx((0.6 + 0.7) / 2)
    assert told.request_throughput == pytest.approx(2 / 1.9)
    assert told.output_throughput == pytest.approx(14 / 1.9)
    assert told.total_token_throughput == pytest.approx(28 / 1.9)
    with_roles = as_vllm(figures.all, figures.peers, role_chunks=True)
    assert with_roles.itl_s.mean == pytest.approx((0.5 + 0.3) / 14)
    assert figures.all.itl.count == 12


def test_the_same_samples_by_guidellms_definitions() -> None:
    figures = figures_of(*streams())
    told = as_guidellm(figures.all, figures.peers)
    assert told.time_to_first_token_s.mean == pytest.approx((0.1 + 0.4) / 2)
    assert told.inter_token_latency_s.mean == pytest.approx((0.5 + 0.3) / 12)
    # By answers weighted by their gaps: ten twelfths lie at 0.05.
    assert told.inter_token_latency_s.p50 == pytest.approx(0.05, rel=0.002)
    assert told.inter_token_latency_s.p90 == pytest.approx(0.15, rel=0.002)
    assert told.time_per_output_token_s.mean == pytest.approx((0.6 + 0.7) / 14)
    assert told.request_latency_s.mean == pytest.approx((0.61 + 0.9) / 2)
    assert told.requests_per_second == pytest.approx(2 / 1.9)
    assert told.output_tokens_per_second == pytest.approx(14 / 1.9)


def test_the_same_samples_by_aiperfs_definitions() -> None:
    figures = figures_of(*streams())
    told = as_aiperf(figures.all, figures.peers)
    assert told.inter_token_latency_s.mean == pytest.approx((0.05 + 0.15) / 2)
    assert told.inter_chunk_latency_s.count == 12
    assert told.request_latency_s.mean == pytest.approx((0.6 + 0.7) / 2)
    assert told.request_throughput == pytest.approx(2 / 1.7)
    assert told.output_token_throughput == pytest.approx(14 / 1.7)
