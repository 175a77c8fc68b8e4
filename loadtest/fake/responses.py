"""`/v1/responses` in the exact JSON of vLLM 0.32."""

from collections.abc import Iterator

from loadtest.fake.answers import Answer, Json, named_event, random_id


class Responses:
    """`/v1/responses`; every event carries the next sequence number."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._id = answer.request.get("request_id") or f"resp_{random_id()}"
        self._message_id = f"msg_{random_id()}"
        self._sequence = -1

    def plain(self) -> Json:
        cut = self.answer.finish_reason == "length"
        return self._response("incomplete" if cut else "completed", [self._message()])

    def head(self) -> Iterator[bytes]:
        for kind in ("response.created", "response.in_progress"):
            yield self._event({"response": self._response("in_progress", [])}, kind)
        item = self._message() | {"content": [], "status": "in_progress"}
        yield self._event({"item": item, "output_index": 0}, "response.output_item.added")
        part = self._part("") | {"logprobs": []}
        yield self._event(self._place() | {"part": part}, "response.content_part.added")

    def step(self, index: int) -> Iterator[bytes]:
        if piece := self.answer.pieces[index]:
            place = self._place()
            content = {"content_index": place.pop("content_index"), "delta": piece}
            rest = {"item_id": self._message_id, "logprobs": [], "output_index": 0}
            yield self._event(content | rest, "response.output_text.delta")

    def tail(self) -> Iterator[bytes]:
        start = {"content_index": 0, "item_id": self._message_id, "logprobs": []}
        yield self._event(
            start | {"output_index": 0}, "response.output_text.done", {"text": self.answer.text}
        )
        part = {"part": self._part(self.answer.text)}
        yield self._event(self._place() | part, "response.content_part.done")
        item = {"item": self._message(), "output_index": 0}
        yield self._event(item, "response.output_item.done")
        yield self._event({"response": self.plain()}, "response.completed")

    def broken(self, message: str) -> bytes:
        body = {"code": "500", "message": message, "param": None}
        return self._event(body, "error")

    def _event(self, body: Json, kind: str, more: Json | None = None) -> bytes:
        self._sequence += 1
        numbered = body | {"sequence_number": self._sequence}
        return named_event(numbered | (more or {}) | {"type": kind})

    def _place(self) -> Json:
        return {"content_index": 0, "item_id": self._message_id, "output_index": 0}

    def _part(self, text: str) -> Json:
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}

    def _message(self) -> Json:
        return {
            "id": self._message_id,
            "content": [self._part(self.answer.text)],
            "role": "assistant",
            "status": "completed",
            "type": "message",
            "phase": None,
        }

    def _response(self, status: str, output: list[Json]) -> Json:
        request = self.answer.request
        cut = status == "incomplete"
        return {
            "id": self._id,
            "created_at": self.answer.created,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": request.get("instructions"),
            "metadata": request.get("metadata"),
            "model": self.answer.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": request.get("temperature", 1.0),
            "tool_choice": "none",
            "tools": [],
            "top_p": request.get("top_p", 1.0),
            "background": False,
            "max_output_tokens": request.get("max_output_tokens"),
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": request.get("top_logprobs"),
            "truncation": "disabled",
            "usage": None if status == "in_progress" else self._usage(),
            "user": request.get("user"),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def _usage(self) -> Json:
        usage = self.answer.usage()
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": usage["total_tokens"],
        }
