"""Users' feedback: what one says of a completion, and whose completion it was."""

from collections import deque

from pydantic import BaseModel, ConfigDict, Field

from gateway.metrics import Subject

_GENERATIONS = 10
_PREFIXES = ("chatcmpl-", "cmpl-", "resp_")


class FeedbackIn(BaseModel):
    """What a user thought of one completion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion_id: str = Field(max_length=128, description="The `id` that the answer carried.")
    score: float = Field(ge=-1, le=1, description="From -1, bad, to 1, good.")
    comment: str | None = Field(None, max_length=4096)


class Completions:
    """The latest completions by request id; beyond the capacity the oldest tenth is forgotten."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._size = max(1, capacity // _GENERATIONS)
        # Plain dicts in order of age: one ordered one takes half as much memory again.
        self._served: deque[dict[str, Subject]] = deque([{}], maxlen=capacity // self._size)

    def record(self, request_id: str, subject: Subject) -> None:
        """Keeps in mind who served a request."""
        newest = self._served[-1]
        if len(newest) >= self._size:
            newest = {}
            self._served.append(newest)
        newest[request_id] = subject

    def take(self, tenant: str, completion_id: str) -> Subject | None:
        """Who served the completion, once; None where it is unknown, forgotten or another tenant's.

        completion_id: the `id` in an answer's body, which holds the request's id.
        """
        request_id = _request_id(completion_id)
        for generation in self._served:
            served = generation.get(request_id)
            if served is not None and served.tenant == tenant:
                return generation.pop(request_id)
        return None


def _request_id(completion_id: str) -> str:
    for prefix in _PREFIXES:
        if completion_id.startswith(prefix):
            return completion_id.removeprefix(prefix)
    return completion_id
