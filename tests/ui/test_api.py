"""The named endpoints that programs may call."""

from pathlib import Path

from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings, prepare_home
from peft_studio.ui import build_app


def test_public_endpoints_have_their_names(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    prepare_home(settings)
    info = build_app(JobManager(settings), settings).get_api_info()
    assert set(info["named_endpoints"]) == {"/start_run", "/estimate", "/stop_run", "/list_runs", "/generate"}
