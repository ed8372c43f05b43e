"""One run on the command line: follows it, with a progress bar, until it is over."""

import signal
import sys
import time

from tqdm import tqdm

from peft_studio.cli.launchers import Hand
from peft_studio.cli.printing import print_json, print_notes, print_table
from peft_studio.errors import JobError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.claims import claimant_lives
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo, RunReader
from peft_studio.runs.status import Lives, Status

EXIT_FAILED = 1  # a run ended badly
_RESULT = (
    "status", "reason", "trainable_params", "total_params", "adapter_bytes", "peak_memory_bytes", "seconds", "metrics",
    "best_eval_loss", "best_step", "saved_step", "tokenizers",
)  # fmt: skip
POLL = 0.1  # seconds between two looks at the run's folder
PATIENCE = 5.0  # seconds for a run whose worker has ended to show who runs it


def follow_to_end(manager: JobManager, paths: RunPaths, hand: Hand, max_steps: int, as_json: bool) -> int:
    """Shows a run until it is over, and prints what became of it; returns the exit status.

    Raises:
        JobError: Nobody will take the run any more.
    """
    print(f"run {paths.id} in {paths.root}", file=sys.stderr)
    info = Follower(paths, hand, max_steps, manager.executor.lives).wait()
    if as_json:
        told = {name: getattr(info, name) for name in _RESULT}
        print_json({"run_id": info.id, "run_dir": str(paths.root), **told})
    else:
        figures = {**info.metrics, **({} if info.best_eval_loss is None else {"best eval/loss": info.best_eval_loss})}
        marks = {f"test/{name}": f"tokenizer {used}" for name, used in info.tokenizers.items()}
        print_table([(name, f"{value:.4f}", marks.get(name)) for name, value in sorted(figures.items())])
        print(f"{info.status}: {info.id}")
    print_notes(manager.library.notes(info.id))
    if info.status == "failed":
        print(f"error: {info.reason}", file=sys.stderr)
        return EXIT_FAILED
    return 0


class Follower:
    """Shows a run's progress on stderr.

    Args:
        paths: The run.
        hand: Who is to train it; another may have been faster to claim the run.
        max_steps: Length of the bar.
        lives: Tells whether the process that claimed it lives.
    """

    def __init__(self, paths: RunPaths, hand: Hand, max_steps: int, lives: Lives = claimant_lives) -> None:
        self._paths = paths
        self._hand = hand
        self._reader = RunReader(paths, lives)
        pause = 0.5 if sys.stderr.isatty() else 10.0  # in a log file, a line now and then is enough
        self._bar = tqdm(total=max_steps, unit="step", file=sys.stderr, mininterval=pause, dynamic_ncols=True)
        self._stage = ""
        self._unclaimed_since = 0.0

    def wait(self) -> RunInfo:
        """Returns when the run is over. Ctrl-C stops it, which saves its adapter; a second Ctrl-C ends it at once.

        Raises:
            JobError: Nobody will take the run any more.
        """
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while True:
                try:
                    info = self._show()
                    if Status(info.status).is_over:
                        return info
                    time.sleep(POLL)
                except KeyboardInterrupt:
                    self._stop()
        finally:
            signal.signal(signal.SIGTERM, previous)
            self._bar.close()
            self._hand.close()

    def _show(self) -> RunInfo:
        info = self._reader.info()
        self._bar.update(max(0, info.step - self._bar.n))
        stage = self._hand.words if info.status == Status.QUEUED else info.stage
        if stage and stage != self._stage:
            self._stage = stage
            self._bar.set_description_str(stage, refresh=True)
        shown = {"loss": info.loss, "eval": info.eval_loss}
        self._bar.set_postfix(
            {key: f"{value:.4f}" for key, value in shown.items() if value is not None}, refresh=False
        )
        if info.status == Status.QUEUED and (why := self._hand.lost()):
            self._unclaimed_since = self._unclaimed_since or time.monotonic()
            if time.monotonic() - self._unclaimed_since > PATIENCE:
                raise JobError(why)
        return info

    def _stop(self) -> None:
        if not self._paths.stop.exists():
            print("\nStopping; the adapter is saved. Press Ctrl-C again to end at once.", file=sys.stderr)
            self._paths.stop.touch()
        else:
            self._hand.end()
