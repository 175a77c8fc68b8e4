"""What ends a command early: one clear line for the person at the terminal, and an exit code."""


class CommandError(Exception):
    """A command that cannot do what it was asked for. The message says why, and the way out."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UsageError(CommandError):
    """The command was called wrongly."""

    exit_code = 2
