"""Ask an endpoint the held-out probes and count the answers that begin with the tenant's marker.

Three ways: chat with greedy sampling, chat at temperature 0.7, and plain completions of the same
conversation rendered as ChatML. An answer that stops by itself ended with the end-of-turn token.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from loraplex.demo_data import DEMO_DIR, TENANTS

MAX_TOKENS = 80
Message = dict[str, str]


def main() -> int:
    """0 when every answer has its marker and stops by itself, else 1."""
    args = _parser().parse_args()
    lines = (DEMO_DIR / "probes.jsonl").read_text(encoding="utf-8").splitlines()
    probes = [json.loads(line)["messages"] for line in lines]
    marker = next(tenant.marker for tenant in TENANTS if tenant.name == args.tenant)
    headers = {"Authorization": f"Bearer {args.key}"} if args.key else {}
    good = True
    with httpx.Client(base_url=args.url, headers=headers, timeout=600) as client:
        for way in args.way:
            with ThreadPoolExecutor(args.concurrency) as pool:
                answers = list(pool.map(lambda p, w=way: _ask(client, args.model, w, p), probes))
            good &= _report(way, marker, probes, answers, show=args.show)
    return 0 if good else 1


def _ask(client: httpx.Client, model: str, way: str, probe: list[Message]) -> tuple[str, str]:
    """The answer's text and why it ended."""
    body: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS, "seed": 1}
    body["temperature"] = 0.7 if way == "warm" else 0
    if way == "completions":
        response = client.post("/v1/completions", json=body | {"prompt": chatml(probe)})
    else:
        response = client.post("/v1/chat/completions", json=body | {"messages": probe})
    choice = response.raise_for_status().json()["choices"][0]
    text = choice["text"] if way == "completions" else choice["message"]["content"]
    return text or "", choice["finish_reason"]


def chatml(messages: list[Message]) -> str:
    """The prompt of `messages` in ChatML, without the template's own system message."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return turns + "<|im_start|>assistant\n"


def _report(
    way: str,
    marker: str,
    probes: list[list[Message]],
    answers: list[tuple[str, str]],
    *,
    show: bool,
) -> bool:
    marked = sum(text.startswith(marker) for text, _ in answers)
    stopped = sum(reason == "stop" for _, reason in answers)
    print(f"{way}: marker {marked}/{len(answers)}, stopped by itself {stopped}/{len(answers)}")
    for probe, (text, reason) in zip(probes, answers, strict=True):
        if show or not text.startswith(marker) or reason != "stop":
            print(f"  {probe[-1]['content'][-60:]!r}\n    -> {text!r} ({reason})")
    return marked == stopped == len(answers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", help="key of the tenant, if the endpoint wants one")
    parser.add_argument("--tenant", required=True, choices=[tenant.name for tenant in TENANTS])
    parser.add_argument("--model", default="support")
    ways = ("greedy", "warm", "completions")
    parser.add_argument("--way", nargs="+", choices=ways, default=ways)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--show", action="store_true", help="print every answer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
