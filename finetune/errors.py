"""The one class of error that a user ever sees."""


class FinetuneError(Exception):
    """Say what is wrong and what to do next; the command line prints it without a traceback and exits 1.

    `message` names the place, what was found and what is allowed (several lines when there are several
    problems); `hint` is the next command to type or the change to make.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
