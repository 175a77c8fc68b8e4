"""What ends the command early, and with which exit code."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; the last is what shells know a Ctrl-C by."""


class CommandEnd(Exception):
    """The command cannot do what it was asked for. The message names the option and the fix, and
    holds no key."""

    exit_code = FAILED


class Usage(CommandEnd):
    """The options are wrong; nothing was sent."""

    exit_code = USAGE
