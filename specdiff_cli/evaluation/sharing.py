"""The pieces of an evaluation shared out to other processes, with the report that one process makes."""

from contextlib import closing

from specdiff_cli.corpus.spread import Spread
from specdiff_cli.errors import SpecdiffError, explain
from specdiff_cli.evaluation.evaluate import Evaluation, EventCallback, Made, RecordingCallback
from specdiff_cli.evaluation.request import EvaluationRequest

Judged = tuple[int, "list[Made] | SpecdiffError"]


class EvaluationWork:
    """Judges pieces by voices that are loaded once."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def one(self, index: int) -> Judged:
        """The number of a piece, and its recordings with what was measured; or why there are none."""
        try:
            return index, list(self._evaluation.judged(index))
        except Exception as error:
            return index, explain(error)


def make_evaluation_work(request: EvaluationRequest) -> EvaluationWork:
    """In the process that does it. Raises what :func:`~specdiff_cli.evaluation.setup.make_ready` does."""
    from specdiff_cli.evaluation.setup import make_ready

    evaluation, _ = make_ready(request)
    evaluation.warm_up()
    return EvaluationWork(evaluation)


def run_shared(
    evaluation: Evaluation,
    request: EvaluationRequest,
    spread: Spread,
    on_event: EventCallback | None = None,
    on_recording: RecordingCallback | None = None,
) -> None:
    """As ``evaluation.run``, by others; pieces are taken in their order, and those that are early wait.

    Raises SpecdiffError for the first piece that could not be judged.
    """
    early: dict[int, list[Made]] = {}
    n_taken = 0
    with closing(spread(make_evaluation_work, (request,), range(len(evaluation.pieces)))) as results:
        for index, made in results:
            if isinstance(made, SpecdiffError):
                raise made
            early[index] = made
            while n_taken in early:
                evaluation.take(n_taken, early.pop(n_taken), on_event, on_recording)
                n_taken += 1
