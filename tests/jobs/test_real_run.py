"""The whole chain once, nothing pretended: warm server, real worker, real engine."""

import json
import subprocess
import sys
from pathlib import Path

from job_kit import wait_for

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings

CONFIG = {
    "method": {"name": "ia3"},
    "training": {"max_steps": 5000, "batch_size": 1, "eval_rows": 1, "eval_every": 5000},
}


def test_estimate_train_stop_and_generate(home: Path) -> None:
    manager = JobManager(Settings(home=home, max_running=1, threads=1))
    manager.start()
    try:
        run_id = manager.submit(parse_config(CONFIG))
        estimate = manager.engine.estimate(CONFIG)
        wait_for(lambda: manager.library.info(run_id).step >= 2 or manager.library.info(run_id).reason, 60)
        assert manager.library.info(run_id).status == "running", manager.library.info(run_id).reason
        manager.stop(run_id)
        info = wait_for(
            lambda: info if (info := manager.library.info(run_id)).status not in ("running", "stopping") else None, 60
        )
        assert (info.status, info.reason) == ("stopped", "")
        assert info.trainable_params == estimate["trainable_params"] and info.total_params == estimate["total_params"]
        saved = manager.store.paths(run_id).adapter / "adapter_model.safetensors"
        assert info.adapter_bytes == saved.stat().st_size == estimate["adapter_bytes"]
        last = list(manager.engine.generate("nano-lm", [run_id], "A fox", {"max_new_tokens": 3}))[-1]
        assert [column["name"] for column in last["columns"]] == ["base", run_id]
    finally:
        manager.close()


def test_importing_jobs_loads_nothing_heavy() -> None:
    code = "import sys, json, peft_studio.jobs.manager; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "transformers", "peft", "numpy", "gradio", "ray"} & set(loaded)
