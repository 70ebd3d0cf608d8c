"""Progress column: state of a generation and its time left, as of each refresh."""

from rich.progress import ProgressColumn, Task
from rich.text import Text

from mediagate_cli.progress import format_state


class StateColumn(ProgressColumn):
    """Column for `generation`, a field of its task."""

    def render(self, task: Task) -> Text:
        """Return the state in words."""
        return Text(format_state(task.fields["generation"]))
