"""The real worker, with a checkpoint and a short wait after every step, so that tests can kill it in time."""

import sys
import time

from peft_studio.worker import main


def train(**kwargs: object) -> None:
    """As the worker's own, with the pace changed."""
    from peft_studio.training import trainer
    from peft_studio.training.checkpoints import checkpointing

    checkpointing.CHECKPOINT_SECONDS, checkpointing.CHECKPOINT_SHARE = 0.0, 1e9
    real = checkpointing.Checkpointer.on_step_end

    def on_step_end(self: checkpointing.Checkpointer, last: bool) -> None:
        real(self, last)
        time.sleep(0.02)

    checkpointing.Checkpointer.on_step_end = on_step_end
    trainer.run(**kwargs)


if __name__ == "__main__":
    sys.exit(main(train=train))
