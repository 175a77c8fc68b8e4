"""Chat and text completions in the exact JSON of vLLM 0.32."""

from collections.abc import Iterator
from typing import ClassVar

from loadtest.fake.answers import FINGERPRINT, Answer, Json, data_event, error_body


class _OpenAI:
    """What chat and text completions share."""

    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def _body(self, kind: str, choices: list[Json]) -> Json:
        answer = self.answer
        return {
            "id": f"{self.prefix}-{answer.request_id}",
            "object": kind,
            "created": answer.created,
            "model": answer.model,
            "choices": choices,
        }

    def _plain(self, choices: list[Json]) -> Json:
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            **self._body(self.kind, choices),
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self.answer.usage() | details,
        }

    def _is_last(self, step: int) -> bool:
        return step == len(self.answer.pieces) - 1

    def _end_marks(self, step: int, choice: int) -> Json:
        """The fingerprint, which rides on the very last chunk unless a usage event follows."""
        last = self._is_last(step) and choice == self.answer.choices - 1
        if last and not self.answer.wants_usage("include_usage"):
            return {"system_fingerprint": FINGERPRINT}
        return {}

    def tail(self) -> Iterator[bytes]:
        if self.answer.wants_usage("include_usage"):
            body = self._body(self._stream_kind(), [])
            usage = {"usage": self.answer.usage(), "system_fingerprint": FINGERPRINT}
            yield data_event(body | usage)
        yield b"data: [DONE]\n\n"

    def broken(self, message: str) -> bytes:
        return data_event(error_body(message, "InternalServerError", 500)) + b"data: [DONE]\n\n"

    def _stream_kind(self) -> str:
        return self.kind


class Chat(_OpenAI):
    """`/v1/chat/completions`."""

    kind = "chat.completion"
    prefix = "chatcmpl"

    def plain(self) -> Json:
        answer = self.answer
        steps = range(len(answer.pieces))
        choices = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": answer.text,
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": self._logprobs(*steps),
                "finish_reason": answer.finish_reason,
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
            for index in range(answer.choices)
        ]
        nothing = dict.fromkeys(
            (
                "prompt_logprobs",
                "prompt_token_ids",
                "prompt_text",
                "kv_transfer_params",
                "ec_transfer_params",
                "metrics",
            )
        )
        return self._plain(choices) | nothing

    def head(self) -> Iterator[bytes]:
        for index in range(self.answer.choices):
            choice = {
                "index": index,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            body = self._body(self._stream_kind(), [choice]) | self._usage_so_far(0)
            yield data_event(body | {"prompt_token_ids": None, "prompt_text": None})

    def step(self, index: int) -> Iterator[bytes]:
        last = self._is_last(index)
        for number in range(self.answer.choices):
            choice: Json = {
                "index": number,
                "delta": {"content": self.answer.pieces[index]},
                "logprobs": self._logprobs(index),
                "finish_reason": self.answer.finish_reason if last else None,
            }
            choice |= {"stop_reason": None, "token_ids": None} if last else {"token_ids": None}
            body = self._body(self._stream_kind(), [choice]) | self._usage_so_far(index + 1)
            yield data_event(body | self._end_marks(index, number))

    def _usage_so_far(self, produced: int) -> Json:
        if not self.answer.wants_usage("continuous_usage_stats"):
            return {}
        tokens = self.answer.prompt_tokens + produced
        usage = {"total_tokens": tokens, "completion_tokens": produced}
        first: Json = {"prompt_tokens": self.answer.prompt_tokens}
        return {"usage": first | usage | {"completion_tokens_details": None}}

    def _stream_kind(self) -> str:
        return "chat.completion.chunk"

    def _logprobs(self, *steps: int) -> Json | None:
        if not self.answer.request.get("logprobs"):
            return None
        top = self.answer.request.get("top_logprobs") or 0
        content = []
        for step in steps:
            piece = self.answer.pieces[step]
            token: Json = {
                "token": piece,
                "logprob": self.answer.logprob(step),
                "bytes": list(piece.encode()),
            }
            content.append(token | {"top_logprobs": [token] if top else []})
        return {"content": content}


class Completion(_OpenAI):
    """`/v1/completions`."""

    kind = "text_completion"
    prefix = "cmpl"

    def plain(self) -> Json:
        answer = self.answer
        choices = [
            {
                "index": index,
                "text": answer.text,
                "logprobs": self._first_token(index) or self._logprobs(*range(len(answer.pieces))),
                "finish_reason": answer.finish_reason,
                "stop_reason": None,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index in range(answer.choices)
        ]
        nothing = dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics"))
        return self._plain(choices) | nothing

    def head(self) -> Iterator[bytes]:
        return iter(())

    def step(self, index: int) -> Iterator[bytes]:
        for number in range(self.answer.choices):
            choice = {
                "index": number,
                "text": self.answer.pieces[index],
                "logprobs": self._logprobs(index),
                "finish_reason": self.answer.finish_reason if self._is_last(index) else None,
                "stop_reason": None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            body = self._body(self.kind, [choice])
            if self.answer.wants_usage("continuous_usage_stats"):
                tokens = self.answer.prompt_tokens + index + 1
                body["usage"] = {
                    "prompt_tokens": self.answer.prompt_tokens,
                    "total_tokens": tokens,
                    "completion_tokens": index + 1,
                }
            yield data_event(body | self._end_marks(index, number))

    def _first_token(self, choice: int) -> Json | None:
        """Of an answer of one token, with tokens named by their ids."""
        found = self.answer.next_tokens
        if found is None:
            return None
        # The answers to one prompt stand together.
        top = found[choice * len(found) // self.answer.choices]
        token, value = next(iter(top.items()))
        return {
            "text_offset": [0],
            "token_logprobs": [value],
            "tokens": [token],
            "top_logprobs": [top],
        }

    def _logprobs(self, *steps: int) -> Json | None:
        if self.answer.request.get("logprobs") is None:
            return None
        tokens = [self.answer.pieces[step] for step in steps]
        values = [self.answer.logprob(step) for step in steps]
        offsets = [sum(map(len, self.answer.pieces[:step])) for step in steps]
        return {
            "text_offset": offsets,
            "token_logprobs": values,
            "tokens": tokens,
            "top_logprobs": [{token: value} for token, value in zip(tokens, values, strict=True)],
        }
