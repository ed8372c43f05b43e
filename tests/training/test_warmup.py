"""What the warm server does before it forks leaves no thread and no other numbers behind."""

from pathlib import Path

import psutil
import torch

from peft_studio.processes.warm_client import WarmClient
from peft_studio.training.warmup import rehearse


def test_a_server_that_has_rehearsed_can_be_forked(home: Path) -> None:
    home.mkdir(exist_ok=True)
    client = WarmClient(home / "warm.log", threads=2)
    client.open()
    try:
        assert client.wait_ready(120)
        assert psutil.Process(client.pid).num_threads() == 1
        assert "Error" not in (home / "warm.log").read_text()
    finally:
        client.close()


def test_numbers_and_threads_are_as_before() -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads()
    rehearse()
    assert torch.equal(torch.random.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
