"""Adapters to a Hub and back, by commands in processes of their own, and beside each other in an answer."""

import json
from pathlib import Path
from typing import Any

from tests.hub_server import TOKEN, Hub


def test_push_and_pull(lora_run: Any, tiny_model: Path, studio: Any, tmp_path: Path) -> None:
    hub = Hub()
    env = {
        "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    try:
        refused = studio("push", lora_run.id, "ada/one", home=lora_run.home, **env, HF_TOKEN="")
        assert (refused.returncode, "HF_TOKEN" in refused.stderr) == (2, True), refused.stderr
        done = studio("push", lora_run.id, "ada/one", "--json", home=lora_run.home, **env, HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == {"url": f"{hub.url}/ada/one"}
        assert TOKEN not in done.stdout + done.stderr
        config = json.loads(hub.repos["ada/one"]["adapter_config.json"])
        config["base_model_name_or_path"] = "ada/base"  # as if the tiny model, a folder of this machine, were there
        hub.repos["ada/one"]["adapter_config.json"] = json.dumps(config).encode()
        done = studio("pull", "ada/one", "--json", home=tmp_path / "home", **env)
        assert done.returncode == 0, done.stderr
        run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
        (listed,) = json.loads(studio("runs", "--json", home=tmp_path / "home", **env).stdout.splitlines()[-1])
        assert (listed["id"], listed["status"], listed["model"]) == (run_id, "finished", "ada/base")
    finally:
        hub.shutdown()
        hub.server_close()
