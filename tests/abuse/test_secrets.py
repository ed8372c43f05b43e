"""A secret is put in wherever one can come in, and looked for in everything that leaves."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.archives.adapter_archive import _write_rows
from peft_studio.cli.main import main
from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.machine.environment import secret_values, without_secrets
from peft_studio.runs.events import EventWriter
from peft_studio.runs.redact import redact
from peft_studio.settings import Settings, prepare_home
from peft_studio.tasks.base import Row
from peft_studio.tasks.reading import reader_client
from peft_studio.ui.http import told
from peft_studio.ui.routes import all_routes

VALUE = "tiger-Balloon/77+x"
SECRETS = (
    VALUE,
    "hf_abcdEFGHijklMNOPqrst",
    "sk-proj-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrstuvwxyz012345",
    "github_pat_11ABCDEFG0abcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-1234567890-abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "MIIEvQIBADANBgkqhkiG9w0BAQ",
    "s3cretSauce",
    "hunter2hunter2",
    "abcDEF123456",
)
TEXT = (
    f"{VALUE} {' '.join(SECRETS[1:8])} -----BEGIN RSA PRIVATE KEY-----\n{SECRETS[8]}\n-----END RSA PRIVATE KEY----- "
    f"https://somebody:{SECRETS[9]}@host/x password={SECRETS[10]} Authorization: Bearer {SECRETS[11]} the end"
)


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text or json.dumps(secret)[1:-1] in text]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobManager:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", VALUE)
    settings = Settings(home=tmp_path / "home")
    prepare_home(settings)
    return JobManager(settings)


@pytest.fixture
def run(manager: JobManager) -> str:
    """A run that failed, with secrets in its name, config, events, rows and log."""
    config = {"method": {"name": "lora"}, "training": {}, "task": {"id": "bistro"}}
    paths = manager.store.paths(manager.submit(parse_config(config), f"mine {VALUE}"))
    record = json.loads(paths.config.read_text())
    paths.config.write_text(json.dumps({**record, "note": TEXT}))
    writer = EventWriter(paths.events)
    writer.emit("started", notes=[TEXT], model={"id": VALUE}, data={}, versions={"peft": TEXT})
    writer.emit("step", step=1, loss=1.0, tokens=5, elapsed=1.0)
    writer.emit("failed", error="RuntimeError", message=TEXT)
    writer.close()
    paths.log.write_text(f"{TEXT}\n")
    paths.predictions.write_text(json.dumps({"prompt": TEXT, "target": VALUE}) + "\n")
    manager.stop(paths.id)
    return paths.id


def test_the_text_is_told_without_any_and_is_not_cut() -> None:
    os.environ.pop("SOME_SERVICE_TOKEN", None)
    assert leaks(redact(TEXT)) == [VALUE]
    assert redact(TEXT).endswith("the end")
    for plain in (
        "tokens: 12345",
        "tokenizer=stories260k",
        "eos_token=</s>",
        "the keyword: monkeys",
        "task-force a-b-c",
    ):
        assert redact(plain) == plain


def test_nothing_that_the_page_asks_for_has_a_secret(manager: JobManager, run: str) -> None:
    client = TestClient(Starlette(routes=all_routes(manager)))
    for path in ("runs.json", "runs.json?since=0", f"log/{run}", f"runs/{run}/details", "compare.csv",
                 f"findings.json?runs={run}", f"metrics.json?runs={run}:0", "queue.json"):  # fmt: skip
        answer = client.get(f"/studio/{path}")
        assert answer.status_code == 200, path
        assert not leaks(answer.text), path
    refused = client.get(f"/studio/log/{VALUE}")
    assert refused.status_code == 404 and not leaks(refused.text)


def test_no_file_of_a_packed_run_has_a_secret(manager: JobManager, run: str, tmp_path: Path) -> None:
    manager.export_run(run, tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        assert {"config.json", "events.jsonl", "output.log", "predictions.jsonl"} <= set(archive.namelist())
        for name in archive.namelist():
            text = archive.read(name).decode()
            assert not leaks(text), name
            for line in text.splitlines() if name.endswith(".jsonl") else ():
                json.loads(line)
        json.loads(archive.read("config.json"))


def test_rows_that_are_taken_along_have_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", VALUE)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        _write_rows(archive, "train.jsonl", [Row(TEXT, VALUE, (VALUE,))] * 3)
    with zipfile.ZipFile(out) as archive:
        lines = archive.read("train.jsonl").decode().splitlines()
    assert len(lines) == 3 and not leaks("".join(lines)) and json.loads(lines[0])["target"] == "[secret]"


def test_the_command_line_tells_none(
    manager: JobManager, run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"PEFT_STUDIO_HOME": str(manager.settings.home), "SOME_SERVICE_TOKEN": VALUE}
    for argv in (["runs"], ["runs", "--json"], ["train", f"/nowhere/{VALUE}.yaml"]):
        main(argv, env)
        shown = capsys.readouterr()
        assert not leaks(shown.out + shown.err), argv


def test_visitors_see_no_folder_of_the_server(manager: JobManager, run: str) -> None:
    paths = manager.store.paths(run)
    home = str(manager.settings.home)
    paths.log.write_text(f'File "{home}/cache/x.py", line 3\ncannot write {home}/runs/a/b.bin: {Path.home()}/c\n')
    client = TestClient(Starlette(routes=all_routes(manager)))
    assert home in client.get(f"/studio/log/{run}").text  # to the owner, they are of use
    with asking(Visitor("v1", Role.VISITOR)):
        assert client.get(f"/studio/log/{run}").status_code == 403
        shown = told(paths.log.read_text())  # as where it is their own
    assert home not in shown and str(Path.home()) + "/" not in shown and "x.py" in shown


def test_a_reading_process_is_given_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"HF_TOKEN": "hf_x", "AWS_SECRET_ACCESS_KEY": "x", "MY_PASSWORD": "x", "PATH": "/bin", "HF_HOME": "/h"}
    assert without_secrets(env) == {"PATH": "/bin", "HF_HOME": "/h"}
    assert secret_values({"A_TOKEN": "short", "B_TOKEN": "true", "C_TOKEN": "/run/secrets/x", "D": VALUE}) == []
    monkeypatch.setenv("HF_TOKEN", VALUE)
    given: list[dict[str, str]] = []

    def started(argv: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        given.append(options["env"])  # type: ignore[arg-type]
        return subprocess.CompletedProcess(argv, 0, b'{"facts": {}}')

    monkeypatch.setattr(reader_client.subprocess, "run", started)
    reader_client.ask_reader("rows.csv", {})
    assert VALUE not in given[0].values() and "PATH" in given[0] and sys.executable
