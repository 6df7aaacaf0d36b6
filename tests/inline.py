"""An engine without processes, for tests of what the tasks do."""

from collections.abc import Callable, Sequence


class InlineEngine:
    """Does every task in this process, in any order that a test likes."""

    def __init__(self, reverse: bool = False) -> None:
        self._reverse = reverse
        self.ran: list[tuple[str, int]] = []
        """Stage and number of the tasks, in the order in which they ran."""

    def clear(self) -> None:
        """Nothing is ever left running."""

    def run(
        self,
        name: str,
        task: Callable[[int], None],
        pending: Sequence[int],
        done: Callable[[int], bool],
        advance: Callable[[], None],
    ) -> None:
        """Runs what is pending."""
        for number in reversed(pending) if self._reverse else pending:
            task(number)
            assert done(number)
            self.ran.append((name, number))
            advance()
