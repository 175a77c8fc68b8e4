"""Whether the target is there at all: judged by the first answers, before time is wasted."""

from loadtest.client.client import NO_HOST, REFUSED
from loadtest.samples import Sample

ENOUGH = 3
"""So many wrong answers, and no right one, are taken for the target's; one may be a chance."""
_NOT_THERE = (REFUSED, NO_HOST)
_WRONG = (401, 403, 404)


class FirstAnswers:
    """Sees every sample; `problem` tells what is wrong with the target, once that is clear."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = False
        self._wrong: list[Sample] = []
        self.problem: str | None = None

    def see(self, sample: Sample) -> None:
        """Takes the next answer. After the first that is right, nothing is judged any more."""
        if self._over or sample.outcome == "cancelled":
            return
        if sample.error in _NOT_THERE or (sample.error or "").startswith(("certificate", "TLS")):
            self._end(self._unreachable(sample.error or ""))
        elif sample.status in _WRONG:
            self._wrong.append(sample)
            if len(self._wrong) == ENOUGH:
                self._end(self._refused(self._wrong))
        else:
            # A timeout or an overload may pass: the run goes on.
            self._over = True

    def finish(self) -> None:
        """No more answers come: those seen are all."""
        if not self._over and self._wrong:
            self._end(self._refused(self._wrong))

    def _end(self, problem: str) -> None:
        self._over, self.problem = True, problem

    def _unreachable(self, error: str) -> str:
        fix = {
            REFUSED: "nothing listens there; start the server, or check --url",
            NO_HOST: "no such host; check --url",
        }.get(error, f"{error}; give its authority with --ca-file, or check --url")
        return f"{self._url} cannot be reached: {fix}"

    def _refused(self, samples: list[Sample]) -> str:
        first = samples[0]
        said = f"{self._url} answered {first.status}"
        if first.status in (401, 403):
            whose, option = (
                (f" of tenant `{first.tenant}`", "--keys-file, or --key")
                if first.tenant
                else ("", "--key")
            )
            return f"{said} to the first requests: it does not take the key{whose}; check {option}"
        if first.error is not None and not first.error.startswith("HTTP"):
            return f"{said} ({first.error}): it has no model `{first.model}`; check --model"
        return f"{said}: it does not know the path; check --url"
