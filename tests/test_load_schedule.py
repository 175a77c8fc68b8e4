"""The schedule: the same for the same seed, in constant memory, whole in its parts."""

import json
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from loadtest.samples import Planned
from loadtest.workload.errors import WorkloadError
from loadtest.workload.loading import make_workload
from loadtest.workload.schedule import by_session, digest, extent, schedule
from loadtest.workload.sessions import Conversation
from loadtest.workload.spec import Workload

HERE = Path(__file__).parent
GATEWAY: dict[str, Any] = {
    "seed": 7,
    "arrivals": {
        "kind": "gamma",
        "burstiness": 0.5,
        "stages": [{"rate": 2, "to": 30, "seconds": 20}, {"rate": 20, "seconds": 10}],
    },
    "tenants": ["t-{1..4}"],
    "models": [{"name": f"adapter-{n}", "tenant": f"t-{n % 4 + 1}"} for n in range(8)],
    "model_choice": "zipf:1.1",
    "mix": [
        {
            "share": 3,
            "prompts": {"kind": "synthetic", "tokens": "lognormal:mean=40,sd=30,max=100"},
            "max_tokens": "normal:30,10",
            "prefix": {"tokens": 10, "groups": 2},
            "sessions": {"turns": "uniform:1,4", "think_s": "exponential:2"},
        },
        {"route": "completions", "stream": False, "extra": {"temperature": 0.7}},
    ],
}


def made(folder: Path = HERE, **fields: Any) -> Workload:
    return make_workload(GATEWAY | fields, folder)


def mix_with(**fields: Any) -> list[dict[str, Any]]:
    """One kind of request with short prompts."""
    return [{"prompts": {"kind": "synthetic", "tokens": 5}} | fields]


def texts(planned: Planned) -> list[str]:
    return [message["content"] for message in planned.body["messages"]]


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    assert digest(made(), 400) == DIGEST


def test_the_digest_depends_on_the_seed_and_on_how_much_is_looked_at() -> None:
    digests = {digest(made(), 50), digest(made(seed=8), 50), digest(made(), 51)}
    assert len(digests) == 3


def test_requests_come_in_time_order_with_an_index_each() -> None:
    planned = list(schedule(made()))
    assert [one.index for one in planned] == list(range(len(planned)))
    times = [one.at_s for one in planned if one.at_s is not None]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 30
    # The area under the ramp and the step, within three deviations of bursts of one half.
    assert len(times) == pytest.approx(520, abs=3 * (520 / 0.5) ** 0.5)


def test_the_parts_of_several_processes_are_the_whole() -> None:
    whole = list(schedule(made()))
    parts = [list(schedule(made(), part=part, parts=3)) for part in range(3)]
    assert sorted((one for part in parts for one in part), key=lambda one: one.index) == whole
    assert {one.session % 3 for one in parts[1] if one.session is not None} == {1}
    assert all(part for part in parts)
    with pytest.raises(ValueError, match="part 3 of 3"):
        schedule(made(), part=3, parts=3)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"model_choice": "uniform"}, {"at_s", "max_tokens", "prompt_tokens", "think_s"}),
        ({"tenant_choice": "uniform"}, {"at_s", "max_tokens", "prompt_tokens", "think_s"}),
        ({"mix": mix_with(max_tokens="uniform:1,9")}, {"at_s", "model", "prompt_tokens"}),
        ({"mix": mix_with(prefix={"tokens": 3})}, {"at_s", "model", "max_tokens"}),
        ({"mix": mix_with(stream=False)}, {"at_s", "model", "max_tokens", "prompt_tokens"}),
        ({"arrivals": {"kind": "closed", "stages": [{"users": 2, "seconds": 1}]}}, {"model"}),
    ],
)
def test_a_changed_option_leaves_the_others_numbers_alone(
    fields: dict[str, Any], same: set[str]
) -> None:
    base = made(mix=mix_with()) if "mix" in fields else made()
    before, after = ([*islice(schedule(one), 60)] for one in (base, made(**fields)))
    assert before != after
    for field in same:
        values = [[getattr(one, field) for one in side] for side in (before, after)]
        assert values[0] == values[1]


def test_a_request_is_a_body_for_its_route() -> None:
    mix = mix_with(max_tokens=9, prefix={"tokens": 2})
    chat = next(schedule(made(mix=mix, models=["m"], tenants=[])))
    system, user = chat.body["messages"]
    assert (system["role"], len(system["content"].split())) == ("system", 2)
    assert (user["role"], len(user["content"].split())) == ("user", 5)
    assert json.loads(chat.payload()) == {
        "model": "m",
        "messages": [system, user],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (chat.route, chat.tenant, chat.prompt_tokens) == ("/v1/chat/completions", "", 7)
    mix[0] |= {"route": "completions", "stream": False, "extra": {"temperature": 0}}
    plain = next(schedule(made(mix=mix, models=["m"], tenants=[])))
    assert plain.payload() == (
        b'{"model":"m","prompt":"%s","max_tokens":9,"stream":false,"temperature":0}'
        % f"{system['content']} {user['content']}".encode()
    )
    assert (plain.route, plain.stream, plain.prompt_tokens) == ("/v1/completions", False, 7)


def test_what_some_servers_do_not_take_can_be_left_out() -> None:
    workload = made(mix=mix_with(), ask_usage=False, max_tokens_field="max_completion_tokens")
    assert list(next(schedule(workload)).body) == [
        "model",
        "messages",
        "max_completion_tokens",
        "stream",
    ]


def test_kinds_come_by_their_shares() -> None:
    mix = [{"share": 0.7}, {"share": 0.3, "route": "completions"}]
    arrivals = {"kind": "constant", "stages": [{"rate": "inf"}]}
    planned = schedule(made(mix=mix, arrivals=arrivals, requests=3000))
    counts = Counter(one.route for one in planned)
    assert counts["/v1/chat/completions"] == pytest.approx(2100, abs=75)
    assert counts.total() == 3000


def test_prompts_share_their_groups_prefix_and_nothing_else() -> None:
    planned = list(islice(schedule(made(mix=mix_with(prefix={"tokens": 8, "groups": 3}))), 60))
    assert len({texts(one)[0] for one in planned}) == 3
    assert len({texts(one)[1] for one in planned}) == 60


@pytest.mark.parametrize(("per", "prefixes"), [("all", 1), ("tenant", 4), ("model", 8)])
def test_prefixes_belong_to_all_or_to_a_tenant_or_model(per: str, prefixes: int) -> None:
    mix = mix_with(prefix={"tokens": 8, "per": per})
    planned = list(islice(schedule(made(mix=mix, model_choice="uniform")), 120))
    assert len({texts(one)[0] for one in planned}) == prefixes
    assert len({(getattr(one, per, ""), texts(one)[0]) for one in planned}) == prefixes


def test_a_closed_loop_has_no_times_and_no_end_but_requests() -> None:
    arrivals = {
        "kind": "closed",
        "stages": [{"users": 4, "seconds": 9}],
        "think_s": "uniform:1,2",
    }
    endless = list(islice(schedule(made(mix=mix_with(), arrivals=arrivals)), 500))
    assert {one.at_s for one in endless} == {None}
    assert all(1 <= one.think_s < 2 for one in endless)
    assert list(schedule(made(mix=mix_with(), arrivals=arrivals, requests=500))) == endless


# Sessions


def test_the_turns_of_a_session_stand_together() -> None:
    mix = mix_with(sessions={"turns": 3, "think_s": 1.5}, prefix={"tokens": 4})
    planned = list(schedule(made(mix=mix, requests=7)))
    # A session that began is finished.
    assert [(one.session, one.turn, one.turns) for one in planned] == [
        (session, turn, 3) for session in range(3) for turn in range(3)
    ]
    assert [one.at_s is None for one in planned[:3]] == [False, True, True]
    assert [one.think_s for one in planned[:3]] == [0, 1.5, 1.5]
    assert [len(texts(one)) for one in planned[:3]] == [2, 1, 1]
    assert [one.prompt_tokens for one in planned[:3]] == [9, None, None]
    assert len({one.model for one in planned[:3]}) == 1
    assert [len(session) for session in by_session(planned)] == [3, 3, 3]


def test_a_conversation_holds_what_was_said_before() -> None:
    mix = mix_with(sessions={"turns": 2}, prefix={"tokens": 2})
    first, second = next(by_session(schedule(made(mix=mix))))
    conversation = Conversation()
    asked = conversation.ask(first)
    assert asked == first.body
    conversation.hear(first, "An answer.")
    assert conversation.ask(second) == {
        **second.body,
        "messages": [
            *first.body["messages"],
            {"role": "assistant", "content": "An answer."},
            *second.body["messages"],
        ],
    }
    # What was sent is not changed afterwards.
    assert asked == first.body


def test_a_conversation_of_completions_is_one_text() -> None:
    mix = mix_with(sessions={"turns": 2}, route="completions")
    first, second = next(by_session(schedule(made(mix=mix))))
    conversation = Conversation()
    conversation.ask(first)
    conversation.hear(first, " And so on.")
    prompt = f"{first.body['prompt']} And so on.\n{second.body['prompt']}"
    assert conversation.ask(second) == {**second.body, "prompt": prompt}


def test_recorded_conversations_are_replayed_turn_by_turn(tmp_path: Path) -> None:
    rows = [
        [("system", "s"), ("user", "a"), ("assistant", "A"), ("user", "b"), ("assistant", "B")],
        [("user", "c")],
    ]
    (tmp_path / "p.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) + "\n"
            for row in rows
        )
    )
    mix = [{"prompts": {"kind": "file", "path": "p.jsonl"}, "sessions": {"recorded": True}}]
    planned = schedule(made(tmp_path, mix=mix, requests=3))
    assert [(one.session, one.turn, texts(one)) for one in planned] == [
        (0, 0, ["s", "a"]),
        (0, 1, ["b"]),
        (1, 0, ["c"]),
    ]


# Traces and files


def test_a_trace_says_when_who_and_how_long(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "timestamp,tenant,model,prompt_tokens,max_tokens\n"
        "50,t-2,adapter-1,9,4\n51,,adapter-3,,\n53.5,t-1,,3,\n"
    )
    workload = made(
        tmp_path,
        arrivals={"kind": "trace", "path": "t.csv"},
        mix=mix_with(max_tokens=6, prefix={"tokens": 4}),
    )
    planned = list(schedule(workload))
    assert [one.at_s for one in planned] == [0, 1, 3.5]
    assert [one.tenant for one in planned] == ["t-2", "t-4", "t-1"]
    assert [one.model for one in planned[:2]] == ["adapter-1", "adapter-3"]
    assert planned[2].model in {"adapter-0", "adapter-4"}
    # All of the trace's tokens, the prefix among them; at least one is the prompt's own.
    assert [one.prompt_tokens for one in planned] == [9, 9, 5]
    assert [one.max_tokens for one in planned] == [4, 6, 6]
    assert extent(workload).seconds == 3.5
    assert extent(workload).arrivals == 3


def test_a_log_is_replayed_with_its_own_prompts(tmp_path: Path) -> None:
    rows = [{"ts": at, "prompt": text} for at, text in [(5, "a"), (5, "b"), (7, "c")]]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workload = made(
        tmp_path,
        arrivals={"kind": "trace", "path": "log.jsonl"},
        mix=[{"prompts": {"kind": "file", "path": "log.jsonl"}}],
    )
    planned = [(one.at_s, *texts(one)) for one in schedule(workload)]
    assert planned == [(0, "a"), (0, "b"), (2, "c")]


def test_a_trace_may_name_models_by_itself(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"time": 1, "model": "x"}\n{"time": 2}\n')
    trace = {"kind": "trace", "path": "t.jsonl"}
    workload = made(tmp_path, arrivals=trace, models=[], tenants=[], mix=mix_with())
    with pytest.raises(WorkloadError, match="trace, line 2: names no model; give `models`"):
        schedule(workload)


def test_files_are_checked_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": 3}\n')
    mix = [{"prompts": {"kind": "file", "path": "p.jsonl"}}]
    with pytest.raises(WorkloadError, match=r"p.jsonl, line 2: `prompt` must be"):
        schedule(made(tmp_path, mix=mix))


def test_lengths_of_one_row_stay_together(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("n,m\n" + "".join(f"{n},{n + 100}\n" for n in range(1, 40)))
    law = {"kind": "file", "path": "l.csv"}
    mix = [
        {
            "prompts": {"kind": "synthetic", "tokens": law | {"column": "n"}},
            "max_tokens": law | {"column": "m"},
        }
    ]
    planned = list(islice(schedule(made(tmp_path, mix=mix)), 50))
    assert {one.max_tokens - (one.prompt_tokens or 0) for one in planned} == {100}
    assert len({one.max_tokens for one in planned}) > 20


def test_how_much_a_schedule_holds_is_known_before() -> None:
    assert extent(made()).seconds == 30
    assert extent(made()).arrivals == 520
    assert extent(made(requests=90)).arrivals == 90
    closed = {"kind": "closed", "stages": [{"users": 4, "seconds": 9}]}
    assert extent(made(arrivals=closed)).seconds == 9
    assert extent(made(arrivals=closed)).arrivals is None


def test_memory_does_not_grow_with_the_schedule() -> None:
    arrivals = {"kind": "poisson", "stages": [{"rate": 1000}]}
    mix = mix_with(sessions={"turns": 2}, prefix={"tokens": 5, "groups": 500})
    planned = schedule(made(arrivals=arrivals, mix=mix, requests=1_000_000))
    tracemalloc.start()
    try:
        grown = [_held(planned, 4000) for _ in range(3)]
    finally:
        tracemalloc.stop()
    assert max(grown[1:]) - grown[0] < 20_000


def _held(planned: Iterator[Planned], many: int) -> int:
    """Bytes held after `many` more requests."""
    deque(islice(planned, many), maxlen=0)
    return tracemalloc.get_traced_memory()[0]


DIGEST = "d7e0dd8ec5a20db0bd18a114098dc20d1c4b72d26617c100365df4112ffbd6db"
