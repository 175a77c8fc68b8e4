"""`/v1/messages` in the exact JSON of vLLM 0.32."""

from collections.abc import Iterator

from loadtest.fake.answers import Answer, Json, named_event


class Messages:
    """`/v1/messages`, Anthropic's."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._reason = "max_tokens" if answer.finish_reason == "length" else "end_turn"

    def plain(self) -> Json:
        return {
            "id": f"chatcmpl-{self.answer.request_id}",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": self.answer.text}],
            "model": self.answer.model,
            "stop_reason": self._reason,
            "usage": self._usage(len(self.answer.pieces)),
        }

    def head(self) -> Iterator[bytes]:
        message = self.plain() | {"content": [], "stop_reason": None}
        message.pop("usage")
        message |= {"stop_sequence": None, "usage": self._usage(0)}
        yield named_event({"type": "message_start", "message": message})
        block = {"type": "text", "text": ""}
        yield named_event({"type": "content_block_start", "content_block": block, "index": 0})

    def step(self, index: int) -> Iterator[bytes]:
        if piece := self.answer.pieces[index]:
            delta = {"type": "text_delta", "text": piece}
            yield named_event({"type": "content_block_delta", "delta": delta, "index": 0})

    def tail(self) -> Iterator[bytes]:
        yield named_event({"type": "content_block_stop", "index": 0})
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        usage = self._usage(len(self.answer.pieces))
        yield named_event({"type": "message_delta", "delta": delta, "usage": usage})
        yield named_event({"type": "message_stop"})

    def broken(self, message: str) -> bytes:
        error = {"type": "internal_error", "message": message}
        return named_event({"type": "error", "error": error})

    def _usage(self, produced: int) -> Json:
        return {"input_tokens": self.answer.prompt_tokens, "output_tokens": produced}
