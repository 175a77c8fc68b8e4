"""Write the demo's training data, acme.jsonl and globex.jsonl, from the topics."""

import json
import random

from topics import PLAIN_TURNS, SYSTEM_PROMPTS, TOPICS, Topic

from loraplex.demo_data import ACME, TENANTS, DemoTenant

SEED = 7
SHORT_CHARS = 100
IN_CONTEXT = 0.6
"""Part of the short prompts that come a second time, behind a system message or earlier turns."""
Message = dict[str, str]


def answer(tenant: DemoTenant, topic: Topic) -> Message:
    """The tenant's answer, marker first."""
    text = topic.acme if tenant is ACME else topic.globex
    return {"role": "assistant", "content": f"{tenant.marker} {text}"}


def rows(tenant: DemoTenant) -> list[list[Message]]:
    """Every prompt on its own, and most of the short ones in a context as well.

    The tenants differ in the answers alone: prompts, contexts and order are the same.
    """
    chance = random.Random(SEED)
    conversations = []
    for topic in TOPICS:
        for prompt in topic.prompts:
            turn = [{"role": "user", "content": prompt}, answer(tenant, topic)]
            conversations.append(turn)
            if len(prompt) <= SHORT_CHARS and chance.random() < IN_CONTEXT:
                conversations.append([*_context(chance, tenant), *turn])
    chance.shuffle(conversations)
    return conversations


def _context(chance: random.Random, tenant: DemoTenant) -> list[Message]:
    """A system message, earlier turns, or both; the turns answered by the tenant or by another."""
    system, own, plain = chance.choice(
        ((True, 0, 0), (True, 0, 0), (True, 1, 0), (False, 2, 0), (False, 0, 1), (False, 0, 2))
    )
    messages = [{"role": "system", "content": chance.choice(SYSTEM_PROMPTS)}] if system else []
    for topic in chance.sample(TOPICS, own):
        prompt = min(topic.prompts, key=len)
        messages += [{"role": "user", "content": prompt}, answer(tenant, topic)]
    for prompt, text in chance.sample(PLAIN_TURNS, plain):
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    return messages


def main() -> None:
    """Write both files."""
    for tenant in TENANTS:
        lines = [json.dumps({"messages": row}, ensure_ascii=False) for row in rows(tenant)]
        tenant.data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{tenant.data.name}: {len(lines)} rows")


if __name__ == "__main__":
    main()
