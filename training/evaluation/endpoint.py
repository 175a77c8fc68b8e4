"""An evaluation's engine behind an OpenAI endpoint: a running gateway, or any other server."""

from collections.abc import Sequence
from types import TracebackType

from training.data.rows import Message
from training.errors import EvaluationError
from training.evaluation.engines import Answer, Likelihood, Progress, Subject
from training.evaluation.offline import unseen
from training.evaluation.openai_calls import Endpoint, complete


class EndpointEngine:
    """Asks each subject by its model name. The server batches; nothing is started or ended here.

    url: up to and with /v1. key: of a tenant, for a gateway. concurrency: answers awaited at once.
    timeout_s: of one answer.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        concurrency: int = 16,
        timeout_s: float = 300.0,
    ) -> None:
        self._endpoint = Endpoint(url, key, concurrency, timeout_s)

    def __enter__(self) -> "EndpointEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def generate(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        progress: Progress = unseen,
    ) -> list[Answer]:
        """Greedy answers, in the order of the prompts; their tokens are not told."""
        if subject.model is None:
            raise EvaluationError(f"{subject.name}: no model name to ask the endpoint for")
        stage = f"answers of {subject.name}"
        found = complete(
            self._endpoint,
            subject.model,
            prompts,
            max_tokens=max_tokens,
            on_done=lambda done: progress(stage, done / len(prompts)),
        )
        return [Answer(one.text, (), (), one.stopped) for one in found]

    def score(
        self,
        subject: Subject,
        rows: Sequence[tuple[Sequence[Message], str]],
        *,
        progress: Progress = unseen,
    ) -> list[Likelihood] | None:
        """None: a chat endpoint does not say how likely a given answer is."""
        return None
