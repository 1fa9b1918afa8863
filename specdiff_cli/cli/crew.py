"""``specdiff render --workers`` and ``--ray``: the same render by several processes, and what it shows."""

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from specdiff_cli.cli.guard import Terminated
from specdiff_cli.cli.progress import can_draw, clock, say, stderr_console
from specdiff_cli.cli.screen import MAX_ROWS, RenderScreen, Showing
from specdiff_cli.errors import ExitCode
from specdiff_cli.rendering.events import Done, Failed, Skipped
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.cluster.connect import ClusterOptions
    from specdiff_cli.cluster.jobs import Planned
    from specdiff_cli.cluster.rendering import ClusterEvent
    from specdiff_cli.rendering.record import Settled

#: Failures beyond these are counted, and were told when they came.
MAX_FAILURES = 1000


def render_by_workers(settled: "Settled", options: "ClusterOptions", showing: Showing) -> int:
    """Render all by the workers that are asked for, and show it; the exit code."""
    from specdiff_cli.cluster.jobs import planned
    from specdiff_cli.cluster.rendering import check_request, render_on_cluster

    check_request(settled.request, options)
    with planned(settled) as plan:
        screen = CrewScreen(plan, settled, showing)
        if plan.n_repeated:
            screen.tell(f"{count(plan.n_repeated, 'input')} named more than once: rendered once")
        with screen, closing(render_on_cluster(plan.jobs, settled, options)) as events:
            try:
                for event in events:
                    screen.see(event)
            except (KeyboardInterrupt, Terminated):
                screen.sum_up()
                screen.tell("the same command with --skip-existing goes on")
                raise
        return screen.sum_up()


class CrewScreen(RenderScreen):
    """Shows the events of one render by several workers. Of many files it keeps the failures, and counts the rest."""

    def __init__(self, plan: "Planned", settled: "Settled", showing: Showing) -> None:
        super().__init__(plan.jobs if isinstance(plan.jobs, list) else (), settled, showing)
        self._n_jobs = plan.n_jobs
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._audio_s = 0.0
        self._work_s = 0.0  # of all workers together
        self._work_audio_s = 0.0
        self._crew = ""
        self._bars = ExitStack()
        self._files: _FilesBar | None = None

    def __exit__(self, *error: object) -> None:
        self._bars.close()
        super().__exit__(*error)

    def see(self, event: "ClusterEvent") -> None:
        """Show what has happened."""
        from specdiff_cli.cluster.rendering import Crew

        if isinstance(event, Crew):
            self._meet(event)
            return
        self.show(event)
        if isinstance(event, Done | Skipped | Failed):
            self._count(event)

    def _meet(self, crew: Any) -> None:
        threads = f", {count(crew.n_threads, 'thread')} each" if crew.n_threads > 1 else ""
        if not self._crew and not self._showing.quiet:
            if can_draw():
                self._files = self._bars.enter_context(_FilesBar(self._n_jobs))
            else:
                say(f"rendering {count(self._n_jobs, 'file')} by {count(crew.n_workers, 'worker')}{threads}")
        self._crew = f"{crew.n_ready}/{crew.n_workers}"
        self._draw()

    def _count(self, end: Done | Skipped | Failed) -> None:
        status = self.outcomes[-1].status
        self._counts[status] += 1
        if isinstance(end, Done):
            self._audio_s += end.duration_s
            if end.elapsed_s > 0:
                self._work_s += end.elapsed_s
                self._work_audio_s += end.duration_s
        is_kept = status == "failed" and self._counts["failed"] <= MAX_FAILURES
        if self._n_jobs > MAX_ROWS and not is_kept:
            self.outcomes.pop()
        self._draw()

    def _draw(self) -> None:
        if self._files is not None:
            self._files.update(sum(self._counts.values()), self._audio_s, self._crew, self._each())

    def _each(self) -> str:
        """How fast a worker is, while it works."""
        return f"{self._work_audio_s / self._work_s:.1f} × each" if self._work_s else ""

    def sum_up(self) -> int:
        """The table in the order of the inputs where they are few, and the line that counts; the exit code."""
        self._bars.close()
        if self._n_jobs > 1:
            order = {job: index for index, job in enumerate(self._jobs)}
            self._print_table(sorted(self.outcomes, key=lambda outcome: order.get(outcome.job, 0)))
            self._say_counts()
        if self._n_jobs == 1 and self.outcomes and self.outcomes[0].error is not None:
            return self.outcomes[0].error.exit_code
        return ExitCode.FAILURE if self._counts["failed"] else self._code_unread()

    def _say_counts(self) -> None:
        if self._showing.quiet and not self._counts["failed"]:
            return
        parts = [f"{number} {status}" for status, number in self._counts.items() if number or status == "done"]
        if n_left := self._n_jobs - sum(self._counts.values()):
            parts.append(f"{n_left} not rendered")
        elapsed_s = time.perf_counter() - self._start_s
        speed = ""
        if self._audio_s:
            speed = (
                f"; {clock(self._audio_s)} of audio in {elapsed_s:.1f} s, {self._audio_s / elapsed_s:.1f} × realtime"
            )
            speed += f" ({self._each()})" if self._work_s else ""
        say(f"{count(self._n_jobs, 'input')}: {', '.join(parts)}{speed}")


class _FilesBar:
    """Files, audio, how fast against real time, and the workers. On narrow terminals the last of them are left out."""

    def __init__(self, n_files: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = stderr_console()
        columns: list[Any] = [TextColumn("{task.completed:.0f}/{task.total:.0f} files")]
        if console.width >= 60:
            columns.append(BarColumn(bar_width=None))
        columns.append(TextColumn("{task.fields[audio]}"))
        if console.width >= 80:
            columns.append(TextColumn("{task.fields[speed]}"))
        if console.width >= 100:
            columns += [TextColumn("{task.fields[crew]}"), TimeElapsedColumn()]
        columns += [TextColumn("left"), TimeRemainingColumn(compact=console.width < 60)]
        # Lines of --json go to standard output while the bar is drawn, and must stay there.
        self._progress: Progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self._progress.add_task("", total=n_files, audio="", speed="", crew="")
        self._start_s = time.perf_counter()

    def __enter__(self) -> "_FilesBar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, n_files: int, audio_s: float, crew: str, each: str) -> None:
        """Show how far it is."""
        elapsed_s = max(time.perf_counter() - self._start_s, 1e-9)
        self._progress.update(
            self._task,
            completed=n_files,
            audio=f"{audio_s / 3600:.2f} h",
            speed=f"{audio_s / elapsed_s:.1f} × realtime",
            crew=f"{crew} workers{f', {each}' if each else ''}",
        )
