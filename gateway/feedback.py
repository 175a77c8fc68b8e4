"""Users' feedback: what one says of a completion, and whose completion it was."""

from collections import OrderedDict

from pydantic import BaseModel, ConfigDict, Field

from gateway.metrics import Subject

_PREFIXES = ("chatcmpl-", "cmpl-", "resp_")


class FeedbackIn(BaseModel):
    """What a user thought of one completion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion_id: str = Field(max_length=128, description="The `id` that the answer carried.")
    score: float = Field(ge=-1, le=1, description="From -1, bad, to 1, good.")
    comment: str | None = Field(None, max_length=4096)


class Completions:
    """The latest completions by request id; beyond the capacity the oldest are forgotten."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        # Its oldest entry is found at once; a dict searches past all that were deleted before it.
        self._served: OrderedDict[str, Subject] = OrderedDict()

    def record(self, request_id: str, subject: Subject) -> None:
        """Keeps in mind who served a request."""
        self._served[request_id] = subject
        if len(self._served) > self._capacity:
            self._served.popitem(last=False)

    def take(self, tenant: str, completion_id: str) -> Subject | None:
        """Who served the completion, once; None where it is unknown, forgotten or another tenant's.

        completion_id: the `id` in an answer's body, which holds the request's id.
        """
        request_id = _request_id(completion_id)
        served = self._served.get(request_id)
        if served is None or served.tenant != tenant:
            return None
        del self._served[request_id]
        return served


def _request_id(completion_id: str) -> str:
    for prefix in _PREFIXES:
        if completion_id.startswith(prefix):
            return completion_id.removeprefix(prefix)
    return completion_id
