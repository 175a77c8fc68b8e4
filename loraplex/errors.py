"""What ends a command or a call of the client early; the rest is in loraplex.client.errors."""


class LoraplexError(Exception):
    """A call that failed.

    message: what is wrong, and the way out. status: the HTTP status, if there was an answer.
    code: a stable word for programs. param: the field at fault. request_id: as the gateway's log
    has it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after_s: float | None = None

    def __str__(self) -> str:
        return self.message


class CommandError(Exception):
    """A command that cannot do what it was asked for. The message says why, and the way out."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UsageError(CommandError):
    """The command was called wrongly."""

    exit_code = 2
