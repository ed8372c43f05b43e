"""A job manager in a process of its own, for tests that kill the app: ``python -m app_process HOME [faults]``.

With ``faults`` two runs go at a time, and an engine is asked for a sign of life all the time; the time of its last
answer is that of ``HOME/pings``.
"""

import contextlib
import sys
import time
from pathlib import Path

from job_kit import PRELOAD

from peft_studio.errors import StudioError
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.engine_client import EngineClient
from peft_studio.processes.warm_client import WarmClient
from peft_studio.settings import Settings, prepare_home

if __name__ == "__main__":
    faults = "faults" in sys.argv
    settings = Settings(home=Path(sys.argv[1]), max_running=2 if faults else 1, threads=1)
    prepare_home(settings)
    warm = WarmClient(settings.cache_dir / "warm.log", threads=1, preload=PRELOAD)
    executor = LocalExecutor(warm, 1, "fake_worker")
    manager = JobManager(settings, warm=warm, executor=executor, estimate=lambda _config: {"memory": None})
    if faults:
        manager.engine = EngineClient(warm, settings.home, 1, "fake_engine")
    manager.start(preload_engine=False)
    print("up", flush=True)
    while faults:
        with contextlib.suppress(StudioError):
            manager.engine.estimate({}, timeout=5)
            (settings.home / "pings").touch()
        time.sleep(0.05)
    time.sleep(600)
