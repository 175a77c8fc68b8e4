"""What stops a run of the training module.

TrainingError
+-- RecipeError
+-- DataError
+-- EvaluationError
+-- MergeError
+-- Interrupted
"""


class TrainingError(Exception):
    """A run that cannot go on; the message names what is wrong and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RecipeError(TrainingError):
    """A recipe that cannot be run. The message begins with the field, as `schedule.epochs: ...`."""


class DataError(TrainingError):
    """A row that cannot be trained on.

    line: its line in the file, counted from 1.
    field: where in the row, as `messages[1].content`; empty when the row itself is at fault.
    problem: what is wrong, and the fix.
    """

    def __init__(self, line: int, field: str, problem: str) -> None:
        super().__init__(f"line {line}: {field}: {problem}" if field else f"line {line}: {problem}")
        self.line = line
        self.field = field
        self.problem = problem


class EvaluationError(TrainingError):
    """An engine that cannot start or ended, an endpoint that refuses, a scorer that cannot work."""


class MergeError(TrainingError):
    """A base, an adapter or a disk that a merge cannot be made with, or a merge that is wrong."""


class Interrupted(TrainingError):
    """Ended on request, with what was done kept; the message says how to go on."""
