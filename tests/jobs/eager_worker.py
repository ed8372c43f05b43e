"""The real worker, with a checkpoint and a short wait after every step, so that tests can kill it in time."""

import sys
import time

from peft_studio.worker import main


def train(**kwargs: object) -> None:
    """As the worker's own, with the pace changed."""
    from peft_studio.training import trainer
    from peft_studio.training.checkpoints import checkpointing as keeper

    keeper.CHECKPOINT_SECONDS, keeper.CHECKPOINT_SHARE = 0.0, 1e9
    real = keeper.Keeper.on_step_end

    def on_step_end(self: object, *args: object, **more: object) -> None:
        real(self, *args, **more)
        time.sleep(0.02)

    keeper.Keeper.on_step_end = on_step_end
    trainer.run(**kwargs)


if __name__ == "__main__":
    sys.exit(main(train=train))
