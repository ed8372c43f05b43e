"""Takes snapshots of an adapter while it trains, small ones only, for the Inside tab's time machine."""

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from peft_studio.files import replace_folder
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.snapshots import MOST_BYTES, snapshot_folder, snapshot_steps, thinned
from peft_studio.training.adapter_files import save_adapter

if TYPE_CHECKING:
    from peft import PeftModel

MOST_TRAINED = 8 * MOST_BYTES  # bytes that train; a prefix's network is larger than what is saved of it


class SnapshotTaker:
    """Keeps the adapter of some steps.

    Args:
        paths: The run.
        most: How many are kept; 0 for none.
    """

    def __init__(self, paths: RunPaths, most: int) -> None:
        self._paths = paths
        self._most = most

    def take(self, model: "PeftModel", step: int) -> None:
        """Writes a snapshot and removes those that are too many, or of steps that are taken again.

        Large adapters have none. A snapshot that cannot be written is no reason to end a run.
        """
        trained = sum(item.nbytes for item in model.parameters() if item.requires_grad)
        if step < 1 or not self._most or trained > MOST_TRAINED:
            return
        draft = self._paths.root / ".snapshot"
        try:
            self._paths.snapshots.mkdir(exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            _save(model, draft)
            if (draft / "adapter_model.safetensors").stat().st_size > MOST_BYTES:
                self._most = 0
                return
            (draft / "README.md").unlink(missing_ok=True)
            replace_folder(draft, snapshot_folder(self._paths, step))
            self._thin(step)
        except (OSError, SafetensorError) as exc:
            print(f"No snapshot of step {step}: {exc}", flush=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _thin(self, step: int) -> None:
        steps = snapshot_steps(self._paths)
        kept = thinned([each for each in steps if each <= step], self._most)
        for each in set(steps) - set(kept):
            shutil.rmtree(snapshot_folder(self._paths, each), ignore_errors=True)


def _save(model: "PeftModel", draft: Path) -> None:
    """Saves an adapter in the middle of its training: PEFT writes to the config of some methods as it saves."""
    config = model.active_peft_config
    held = copy.copy(vars(config))
    try:
        save_adapter(model, draft)
    finally:
        vars(config).update(held)
