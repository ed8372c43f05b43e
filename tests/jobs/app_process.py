"""A job manager in a process of its own, for tests that kill the app: ``python -m app_process HOME``."""

import sys
import time
from pathlib import Path

from job_kit import PRELOAD

from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.jobs.warm_client import WarmClient
from peft_studio.settings import Settings, prepare_home

if __name__ == "__main__":
    settings = Settings(home=Path(sys.argv[1]), max_running=1, threads=1)
    prepare_home(settings)
    warm = WarmClient(settings.cache_dir / "warm.log", threads=1, preload=PRELOAD)
    JobManager(settings, warm=warm, executor=LocalExecutor(warm, 1, "fake_worker")).start(preload_engine=False)
    print("up", flush=True)
    time.sleep(600)
