"""What stops a training run.

TrainingError
+-- DataError
"""


class TrainingError(Exception):
    """A run that wrote nothing; the message names what is wrong and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class DataError(TrainingError):
    """A row that cannot be trained on.

    line: its line in the file, counted from 1.
    field: where in the row, as `messages[1].content`; empty when the row itself is at fault.
    """

    def __init__(self, line: int, field: str, problem: str) -> None:
        super().__init__(f"line {line}: {field}: {problem}" if field else f"line {line}: {problem}")
        self.line = line
        self.field = field
