"""Every kind of file of a home, broken in every way: all runs stay listed, what is wrong is said, nothing hangs.

The runs are real: one that finished, one whose worker was killed after a checkpoint.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from breakage import BREAKAGES
from job_kit import wait_for
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.cli.main import main as cli
from peft_studio.config.run_config import parse_config
from peft_studio.errors import CheckpointError, StorageError, StudioError
from peft_studio.files import read_json
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.claims import end_worker
from peft_studio.runs.housekeeping import set_star
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home
from peft_studio.tasks.base import Row
from peft_studio.training.checkpoints.checkpoint import RunIdentity, read_checkpoint
from peft_studio.training.evaluate import BaseFigures
from peft_studio.ui.routes import routes
from peft_studio.ui.storage import storage_routes
from peft_studio.ui.uploads import clean_uploads

pytestmark = pytest.mark.faults
STEPS = 30
ORIGIN = {"Origin": "http://testserver"}

# What a run's folder may hold, and words of which one is said when a file that matters is broken.
KINDS = {
    "config.json": "config",
    "claim.json": "claim|",
    "exit.json": "exit.json|",
    "events.jsonl": "events.jsonl",
    "extended.json": "extended.json|",
    "predicted.json": "predicted.json|",
    "predictions.jsonl": "predictions.jsonl|",
    "adapter": "weights",
    "adapter/adapter_config.json": "adapter_config.json|weights|",
    "adapter/adapter_model.safetensors": "weights",
    "adapter/README.md": "",
    "checkpoint": "checkpoint|",
    "checkpoint/state.json": "checkpoint",
    "checkpoint/step-*.safetensors": "checkpoint",
    "snapshots": "",
    "snapshots/*": "",
    "snapshots/*/adapter_config.json": "",
    "snapshots/*/adapter_model.safetensors": "",
    "attempts": "",
    "attempts/1": "",
    "attempts/1/requeued.json": "",
    "attempts/1/claim.json": "",
    "attempts/1/exit.json": "",
    "output.log": "",
    "imported.json": "",
    "starred": "",
    "stop": "",
    "pause": "",
    ".reserve": "",
}
# Breakages after which a file may still be whole enough: JSON with other values, or a line too many.
SUBTLE = ("wrong values", "long line", "not UTF-8", "list", "half")
PACKED = ("config.json", "events.jsonl", "predictions.jsonl", "exit.json", "adapter", "adapter/*")
HOME_KINDS = (
    "runs", "app.lock", "queue.json", "queue.lock", "cache", "cache/runs.json", "cache/warm.log", "cache/base",
    "cache/base/*.json", "cache/engine.log", "cache/tokens", "cache/tokens/*.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JobManager, str, str]]:
    """A manager with real workers, the id of a finished run, and that of one that was killed twice."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    settings = Settings(home=tmp_path_factory.mktemp("broken") / "home", max_running=1, threads=1, auto_resume=False)
    prepare_home(settings)
    warm = WarmClient(settings.cache_dir / "warm.log", threads=1)
    manager = JobManager(
        settings, warm, LocalExecutor(warm, 1, "eager_worker"), estimate=lambda _: {"memory": {"x": 9}}
    )
    manager.start(preload_engine=False)
    training = {"max_steps": STEPS, "batch_size": 2, "eval_every": 100, "eval_rows": 2, "max_length": 300}
    config = parse_config({"model": {"id": str(tiny_model)}, "method": {"name": "lora"}, "training": training})
    killed = manager.submit(config)
    for step in (1, 5):
        wait_for(
            lambda step=step: (
                manager.library.info(killed).step > step and manager.library.info(killed).checkpoint_step
            ),
            60,
        )
        end_worker(manager.store.paths(killed), force=True)
        wait_for(lambda: manager.library.info(killed).status == "failed", 20)
        if not manager.library.info(killed).attempts:
            manager.resume(killed)
    finished = manager.submit(config)
    wait_for(lambda: manager.library.info(finished).status == "finished", 120)
    dress(manager.store.paths(finished))
    yield manager, finished, killed
    manager.close()
    patch.undo()


def dress(paths: RunPaths) -> None:
    """Adds what only some runs have: a star, another length, an origin, an estimate."""
    set_star(paths, True)
    paths.extended.write_text(json.dumps({"max_steps": STEPS}))
    paths.predicted.write_text(json.dumps({"memory_bytes": 10**9}))
    (paths.root / "imported.json").write_text(json.dumps({"from": "elsewhere", "time": 1.0}))


def fits(name: str, kinds: object) -> bool:
    """Whether a path is of one of these kinds."""
    return any(Path("/", name).match("/" + kind) for kind in kinds)  # type: ignore[attr-defined]


def inside(folder: Path) -> list[str]:
    """All that is in a folder, at any depth."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_every_kind_of_file_is_known(trained: tuple[JobManager, str, str]) -> None:
    manager, *runs = trained
    manager.library.list()
    home = manager.settings.home
    seen = set()
    for run in runs:
        names = inside(manager.store.paths(run).root)
        assert [name for name in names if not fits(name, KINDS)] == []
        seen.update(names)
    others = [name for name in inside(home) if not name.startswith("runs/")]
    assert [name for name in others if not fits(name, HOME_KINDS)] == []
    assert {"config.json", "claim.json", "exit.json", "events.jsonl", "checkpoint/state.json"} <= seen
    assert {"adapter/adapter_model.safetensors", "predictions.jsonl", "attempts/1/requeued.json"} <= seen
    assert {"cache/runs.json", "app.lock"} <= set(others) and any(name.startswith("cache/base/") for name in others)


def ways(name: str) -> dict[str, Callable[[Path], None]]:
    """How a file is broken: in every way if anything reads it, else in those that could make somebody wait or fail."""
    words = next(words for kind, words in KINDS.items() if fits(name, [kind]))
    return BREAKAGES if words else {way: BREAKAGES[way] for way in ("removed", "noise", "folder", "pipe")}


def copies(source: RunPaths, name: str, home: Path) -> JobManager:
    """A home with the run once for every breakage of one of its files, and once as it is."""
    (home / "cache").mkdir(parents=True)
    shutil.copytree(source.root, home / "runs" / "healthy", copy_function=os.link)
    for breakage, act in ways(name).items():
        folder = home / "runs" / breakage.replace(" ", "-")
        shutil.copytree(source.root, folder, copy_function=os.link)
        act(folder / name)
    return JobManager(Settings(home=home))


def look(manager: JobManager, client: TestClient, run: str, pack: bool = True) -> str:
    """Asks everything that the page asks of a run; returns what is said of it."""
    info = manager.library.info(run)
    for path in (f"metrics.json?runs={run}:0", f"log/{run}", f"findings.json?runs={run}"):
        assert client.get(f"/studio/{path}").status_code == 200
    details = client.get(f"/studio/runs/{run}/details").json()
    for path in (f"export/{run}.zip", f"archive/{run}.zip") if pack else ():
        assert client.get(f"/studio/{path}").status_code in (200, 409)
    json.dumps([info.to_dict(), *manager.library.metrics(run)], allow_nan=False)
    try:
        manager.library.clone(run)
    except StudioError as exc:
        assert "config.json" in str(exc)
    said = [finding["cause"] for finding in details["findings"] if finding["id"] == "damaged"]
    return " ".join([info.reason, *said])


def left_over(paths: RunPaths) -> set[str]:
    """Files beside a checkpoint that belong to none: whoever wrote them was killed before they counted, or after."""
    used = {file["name"] for file in (read_json(paths.checkpoint / "state.json") or {}).get("files", {}).values()}
    return {f"checkpoint/{path.name}" for path in paths.checkpoint.glob("*.safetensors") if path.name not in used}


def act(client: TestClient, manager: JobManager, run: str) -> None:
    """Asks for everything that can be asked for; in the end the run is gone."""
    for action in (
        "pause",
        "stop",
        "hold",
        "release",
        "front",
        "free",
        "star",
        "star?on=0",
        "resume",
        "extend?steps=3",
    ):
        answer = client.post(f"/studio/runs/{run}/{action}", headers=ORIGIN)
        assert answer.status_code in (200, 409), (action, answer.text)
        assert answer.status_code == 200 or answer.json()["error"].endswith((".", ")"))
        assert manager.library.info(run).status in ("finished", "stopped", "failed", "queued")
    assert client.post(f"/studio/runs/{run}/delete", headers=ORIGIN).json() == {"ok": True}


@pytest.mark.parametrize("which", [1, 2], ids=["finished", "killed"])
def test_runs_with_broken_files(trained: tuple[JobManager, str, str], which: int, tmp_path: Path) -> None:
    source = trained[0].store.paths(trained[which])
    unused = left_over(source)
    for number, name in enumerate(inside(source.root)):
        words = next(words for kind, words in KINDS.items() if fits(name, [kind]))
        manager = copies(source, name, tmp_path / str(number))
        assert len(manager.library.list()) == len(ways(name)) + 1
        with TestClient(Starlette(routes=[*storage_routes(manager), *routes(manager)])) as client:
            for path in ("runs.json", "runs.json?since=0", "storage.json", "compare.csv"):
                assert client.get(f"/studio/{path}").status_code == 200
            assert look(manager, client, "healthy") == manager.library.info("healthy").reason
            for breakage in ways(name):
                pack = fits(name, PACKED) and breakage != "long line"
                said = look(manager, client, breakage.replace(" ", "-"), pack)
                allowed = words + "|" if breakage in SUBTLE or name in unused else words
                assert re.search(allowed, said), (name, breakage, said)
                act(client, manager, breakage.replace(" ", "-"))
            assert [info.id for info in manager.library.list()] == ["healthy"]
        shutil.rmtree(tmp_path / str(number))


def test_the_command_line_names_broken_files(
    trained: tuple[JobManager, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies(trained[0].store.paths(trained[1]), "config.json", tmp_path)
    env = {"PEFT_STUDIO_HOME": str(tmp_path)}
    assert cli(["runs", "--json"], env) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(BREAKAGES) + 1
    assert cli(["disk"], env) == 0 and cli(["metrics", "nested", "--json"], env) == 0
    capsys.readouterr()
    assert cli(["doctor", "nested"], env) == 0
    assert "config.json is missing or damaged" in capsys.readouterr().out
    assert cli(["export", "nested", "--out", str(tmp_path / "x.zip")], env) == 2
    assert cli(["resume", "nested"], env) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert cli(["delete", "nested"], env) == 0


BROKEN_CHECKPOINTS = [
    ("checkpoint/step-*.safetensors", "noise"),
    ("checkpoint", "dangling"),
]


def test_a_broken_checkpoint_is_told_from_a_whole_one(trained: tuple[JobManager, str, str], tmp_path: Path) -> None:
    source = trained[0].store.paths(trained[2]).checkpoint
    state = json.loads((source / "state.json").read_bytes())
    identity = RunIdentity(**state["identity"])
    whole = read_checkpoint(source, identity)
    assert whole is not None and whole.step == state["step"]
    for name in ("state.json", state["files"]["tensors"]["name"]):
        for number, (breakage, act) in enumerate(BREAKAGES.items()):
            folder = tmp_path / f"{name}-{number}"
            shutil.copytree(source, folder)
            act(folder / name)
            with pytest.raises(CheckpointError, match=r"cannot be read|is damaged"):
                raise AssertionError(f"{breakage}: {read_checkpoint(folder, identity)}")


def test_a_run_goes_on_in_spite_of_a_broken_checkpoint(trained: tuple[JobManager, str, str]) -> None:
    manager, finished, killed = trained
    losses = {
        value["step"]: value["value"] for value in manager.library.metrics(finished) if value["name"] == "train/loss"
    }
    broken = []
    for number, (name, breakage) in enumerate(BROKEN_CHECKPOINTS):
        folder = manager.store.root / f"again-{number}"
        shutil.copytree(manager.store.paths(killed).root, folder, copy_function=os.link)
        for path in ("events.jsonl", "output.log"):  # grow: not shared
            text = (folder / path).read_bytes()
            (folder / path).unlink()
            (folder / path).write_bytes(text)
        BREAKAGES[breakage](next(folder.glob(name)))
        broken.append(folder.name)
        manager.resume(folder.name)
    for run in broken:
        wait_for(lambda run=run: manager.library.info(run).status not in ("queued", "running"), 120)
        assert manager.library.info(run).status == "finished", manager.library.info(run).reason
        points = {v["step"]: v["value"] for v in manager.library.metrics(run) if v["name"] == "train/loss"}
        assert points == pytest.approx(losses)
        if read_json(manager.store.paths(run).checkpoint / "state.json") is None:
            raise AssertionError("it could write no new checkpoint")
        manager.delete(run)


@pytest.mark.parametrize(
    "name", ["queue.json", "queue.lock", "app.lock", "cache/runs.json", "cache/warm.log", "cache"]
)
def test_a_home_with_broken_files(name: str, trained: tuple[JobManager, str, str], tmp_path: Path) -> None:
    source = trained[0].store.paths(trained[1])
    for breakage, break_ in BREAKAGES.items():
        home = tmp_path / breakage
        shutil.copytree(source.root, home / "runs" / "healthy", copy_function=os.link)
        shutil.copytree(trained[0].settings.cache_dir, home / "cache")
        (home / name).touch()
        RunStore(home / "runs").create(trained[0].store.config(source.id), "waits")
        break_(home / name)
        manager = JobManager(Settings(home=home))
        assert {info.status for info in manager.library.list()} == {"finished", "queued"}, breakage
        try:
            manager.pause_queue()
            assert manager.queue.state().paused
        except StorageError as exc:
            assert "queue" in str(exc)
        assert manager.app_is_running() is False
        assert manager.keeper.measure(manager.library.list()).total > 0
        try:
            manager.start(preload_engine=False)
        except StorageError as exc:
            assert str(home) in str(exc)
        manager.close()


def test_broken_figures_of_the_base_model_are_measured_again(tmp_path: Path) -> None:
    figures = BaseFigures(tmp_path, "model", [Row("a", "b", ("b",))], {})
    for breakage in BREAKAGES.values():
        figures.store({"loss": 1.25, "tokens": 3})
        (path,) = (tmp_path / "base").iterdir()
        assert figures.load() == {"loss": 1.25, "tokens": 3}
        breakage(path)
        assert figures.load() is None
        shutil.rmtree(tmp_path / "base")


def test_uploads_are_kept_while_a_config_cannot_be_read(tmp_path: Path) -> None:
    runs, upload = tmp_path / "runs", tmp_path / "uploads" / ("0" * 16)
    for breakage in ("folder", "pipe", "loop"):
        (runs / breakage).mkdir(parents=True)
        BREAKAGES[breakage](runs / breakage / "config.json")
        upload.mkdir(parents=True, exist_ok=True)
        assert clean_uploads(tmp_path, runs, now=1e11) == []
        shutil.rmtree(runs / breakage)
    assert clean_uploads(tmp_path, runs, now=1e11) == [upload]


def test_a_damaged_archive_leaves_nothing(trained: tuple[JobManager, str, str], tmp_path: Path) -> None:
    packed = io.BytesIO()
    trained[0].export_run(trained[1], packed)
    manager = JobManager(Settings(home=tmp_path))
    prepare_home(manager.settings)
    for breakage in ("empty", "half", "noise", "list", "not UTF-8"):
        path = tmp_path / "run.zip"
        path.write_bytes(packed.getvalue())
        BREAKAGES[breakage](path)
        with pytest.raises(StudioError, match=r"zip|damaged"):
            manager.import_run(path)
    assert list((tmp_path / "runs").iterdir()) == []
