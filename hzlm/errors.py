"""The one exception whose text is meant for the user."""


class UserError(Exception):
    """A mistake in an input, a file or a configuration.

    The text is one line: what is wrong, where, and what to do. The command line prints it and exits with status 2.
    """

    def __init__(self, text: str) -> None:
        # What it quotes (a file's name, a value of a config) may hold line ends.
        super().__init__(" ".join(text.splitlines()))
