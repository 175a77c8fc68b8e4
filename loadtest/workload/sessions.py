"""Conversations of several turns: how they are described, and what the runner keeps of one."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from loadtest.samples import Planned
from loadtest.workload.lengths import Fixed, Length, Seconds
from loadtest.workload.part import Part


class Sessions(Part):
    """Each arrival begins a session: a request a turn, each with all that was said before."""

    turns: Length = Fixed(value=4)
    recorded: bool = False
    """The turns are those of the prompt file's conversations, one row a session. The answers
    recorded in it are not sent: the server's own take their places."""
    think_s: Seconds = Fixed(value=0)
    """Seconds from an answer to the next turn."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recorded and "turns" in self.model_fields_set:
            raise ValueError("turns: the recorded conversations say how many; take it out")
        return self


class Conversation:
    """What was said in one session. The runner asks each turn's body, and gives each answer."""

    def __init__(self) -> None:
        self._messages: list[Mapping[str, Any]] = []
        self._text = ""

    def ask(self, planned: Planned) -> Mapping[str, Any]:
        """The body to send: the turn's own with the earlier turns and their answers in it."""
        if "messages" in planned.body:
            self._messages += planned.body["messages"]
            return {**planned.body, "messages": list(self._messages)}
        before = f"{self._text}\n" if self._text else ""
        self._text = before + planned.body["prompt"]
        return {**planned.body, "prompt": self._text}

    def hear(self, planned: Planned, text: str) -> None:
        """The answer to what was asked last, as far as it came."""
        if "messages" in planned.body:
            self._messages.append({"role": "assistant", "content": text})
        else:
            self._text += text
