"""Memory that really runs out: limits on real workers, and a group of processes in which the kernel ends one."""

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.doctor.diagnose import diagnose
from peft_studio.doctor.evidence import read_evidence
from peft_studio.errors import ModelError
from peft_studio.machine.memory import memory_limit
from peft_studio.processes.warm_client import child_environment
from peft_studio.runs.fold import RunFold
from peft_studio.runs.out_of_memory import is_low_memory, log_says_low_memory
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunReader
from peft_studio.runs.store import RunStore

pytestmark = pytest.mark.faults

GROUPS = Path("/sys/fs/cgroup/memory")
MB = 10**6
HUNGRY = """
import sys
sys.path.insert(0, {package!r})
from peft_studio.worker import main
def train(*, emit, **_):
    emit("started", pid=1)
    emit("step", step=1, loss=1.0)
    {greed}
main(sys.argv[1:], train)
"""
PACKAGE = str(Path(__file__).resolve().parents[2])


def run_worker(home: Path, command: list[str], prepare: Callable[[], None], **training: int) -> RunPaths:
    """A run whose worker was limited by ``prepare``, after its end."""
    config = {"method": {"name": "full"}, "training": {"max_steps": 3, "batch_size": 64, "eval_rows": 8, **training}}
    paths = RunStore(home / "runs").create(parse_config(config))
    paths.predicted.write_text(json.dumps({"memory_bytes": 1234 * MB}))
    with paths.log.open("ab") as log:
        command = [sys.executable, *command, str(paths.root)]
        # Forked here, so that the limit holds for nothing but the worker; no other thread runs in a test.
        subprocess.run(command, stdout=log, stderr=log, env=child_environment(2), preexec_fn=prepare, timeout=300)
    return paths


def limit(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to the limit")
def test_a_real_worker_without_enough_memory_says_so(home: Path) -> None:
    """Enough for the libraries and the model, not for steps of 64 rows."""
    paths = run_worker(home, ["-m", "peft_studio.worker"], limit(560 * MB))
    info = RunReader(paths).info()
    failed = json.loads(paths.events.read_text().splitlines()[-1])
    assert (info.status, failed["kind"], failed["error"]) == ("failed", "failed", "OutOfMemoryError"), info.reason
    assert "memory ran out" in info.reason and "A smaller batch size" in info.reason
    assert "needs about 1.23 GB by the estimate" in info.reason and "of the 0.56 GB that are allowed" in info.reason
    (found,) = [item for item in diagnose(read_evidence(RunFold(paths), "failed")) if item.id == "out_of_memory"]
    assert found.settings == {"training.batch_size": 32, "training.gradient_accumulation": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to the limit")
def test_a_worker_that_cannot_even_load_its_libraries_says_so(home: Path) -> None:
    """The C library ends such a process at once, without an exception."""
    paths = run_worker(home, ["-m", "peft_studio.worker"], limit(100 * MB))
    info = RunReader(paths).info()
    assert (info.status, "memory ran out" in info.reason) == ("failed", True), info.reason
    assert [item.id for item in diagnose(read_evidence(RunFold(paths), "failed"))] == ["out_of_memory"]


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of processes that may use 150 MB together, without swap."""
    folder = GROUPS / f"peft-studio-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(150 * MB))
    except OSError:
        pytest.skip("groups of processes cannot be made here")
    yield folder
    with contextlib.suppress(OSError):
        folder.rmdir()


def test_a_worker_that_the_kernel_ends_says_so(home: Path, group: Path) -> None:
    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    script = HUNGRY.format(package=PACKAGE, greed="held = [bytearray(10**7) for _ in range(100)]")
    paths = run_worker(home, ["-c", script], enter)
    assert json.loads(paths.exit.read_text())["signal"] == 9
    info = RunReader(paths).info()
    assert (info.status, info.step) == ("failed", 1)
    assert info.reason == "killed by signal 9 because the machine's memory ran out"
    (found,) = [item for item in diagnose(read_evidence(RunFold(paths), "failed")) if item.id == "killed"]
    assert found.title == "Killed because memory ran out" and found.step == 1


def test_an_abrupt_end_is_told_by_its_last_words(home: Path) -> None:
    greed = "import os; os.write(2, b\"terminate called after throwing 'std::bad_alloc'\\n\"); os.abort()"
    paths = run_worker(home, ["-c", HUNGRY.format(package=PACKAGE, greed=greed)], lambda: None)
    assert "memory ran out" in RunReader(paths).info().reason
    paths = run_worker(home, ["-c", HUNGRY.format(package=PACKAGE, greed="import os; os.abort()")], lambda: None)
    assert RunReader(paths).info().reason == "killed by signal 6"


def test_words_of_an_earlier_attempt_do_not_count(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b"std::bad_alloc\n")
    assert log_says_low_memory(log, 0)
    assert not log_says_low_memory(log, log.stat().st_size)
    assert not log_says_low_memory(tmp_path / "none", 0)


def test_what_counts_as_low_memory() -> None:
    wrapped = ModelError("The model cannot be loaded: [Errno 12]")
    wrapped.__cause__ = OSError(12, "Cannot allocate memory")
    for exc in (MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("std::bad_alloc"), wrapped):
        assert is_low_memory(exc)
    for exc in (RuntimeError("shapes differ"), ModelError("no"), OSError(28, "No space left on device")):
        assert not is_low_memory(exc)


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    whole = memory_limit(tmp_path)
    assert whole > 10**8
    (tmp_path / "memory.max").write_text("300000000\n")
    assert memory_limit(tmp_path) == 300_000_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert memory_limit(tmp_path) == whole
