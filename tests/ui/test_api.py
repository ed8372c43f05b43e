"""The named endpoints that programs may call."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import json, sys
from pathlib import Path
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings, prepare_home
from peft_studio.ui import build_app
settings = Settings(home=Path(sys.argv[1]))
prepare_home(settings)
print(json.dumps(sorted(build_app(JobManager(settings), settings).get_api_info()["named_endpoints"])))
"""


def test_public_endpoints_have_their_names(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    names = json.loads(done.stdout.splitlines()[-1])
    assert sorted(names) == [
        "/ask_at_strength", "/check_merge", "/describe_method", "/estimate", "/experiment_cost", "/export_link",
        "/extend_run", "/follow_run", "/generate", "/get_experiment", "/get_findings", "/get_metrics",
        "/get_results", "/inspect_run", "/list_experiments", "/list_methods", "/list_models", "/list_runs",
        "/list_tasks", "/look_at_step", "/look_at_tokens", "/measure_forgetting", "/mix_adapters", "/pause_run",
        "/prioritize_run", "/resume_run", "/start_experiment", "/start_run", "/stop_experiment", "/stop_run",
    ]  # fmt: skip
