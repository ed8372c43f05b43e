"""Where others use the app nobody names a path, and what is refused is refused in the same words."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.config.run_config import parse_config
from peft_studio.errors import DataError, ModelError, shown
from peft_studio.machine import path_policy
from peft_studio.machine.path_policy import named, resolve, stand_in_empty_folder, use_home, whole
from peft_studio.models.catalog import find_card, is_own_folder, known_params, resolve_model
from peft_studio.tasks.custom import table_facts
from peft_studio.ui.uploads import clean_uploads, keep_upload, use_askers

ANNA, BO = Visitor("anna", Role.VISITOR), Visitor("bo", Role.VISITOR)
ROWS = "text,label\n" + "".join(f"row {number},{'ab'[number % 2]}\n" for number in range(40))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of an app that others use, with the policy as it was afterwards."""
    monkeypatch.setattr(path_policy, "_policy", path_policy._Policy())
    home = (tmp_path / "home").resolve()
    for name in ("uploads", "datasets/org--set", "runs", "cache"):
        (home / name).mkdir(parents=True)
    (home / "datasets" / "org--set" / "train.jsonl").write_text('{"a": "x", "b": "y"}\n')
    use_home(home, public=True)
    use_askers()
    yield home


def bring(folder: Path, visitor: Visitor, home: Path) -> str:
    file = folder / "my rows.csv"
    file.write_text(ROWS)
    with asking(visitor):
        return named(keep_upload(file, home))


def test_an_upload_is_a_ticket_of_whoever_brought_it(home: Path, tmp_path: Path) -> None:
    ticket, other = bring(tmp_path, ANNA, home), bring(tmp_path, BO, home)
    assert ticket.startswith("upload:") and ticket.endswith("/my_rows.csv") and str(home) not in ticket
    assert ticket != other  # the same contents
    with asking(ANNA):
        assert resolve(ticket).read_text() == ROWS
        assert table_facts(Path(ticket)).columns == ("text", "label")
        with pytest.raises(DataError, match="none of yours"):
            resolve(other)
        config = parse_config({"task": {"id": "custom", "train_file": ticket}, "method": {"name": "lora"}})
        assert config.task.train_file == ticket
    for one in (ticket, other):  # the worker, and the app's owner
        assert resolve(one).is_file()
    with asking(Visitor("t", Role.TEACHER)):
        assert resolve(other).is_file()


def test_fetched_data_is_a_ticket_for_all(home: Path) -> None:
    ticket = named(home / "datasets" / "org--set" / "train.jsonl")
    assert ticket == "dataset:org--set/train.jsonl"
    with asking(ANNA):
        assert resolve(ticket).is_file()


def test_what_is_refused_is_refused_in_the_same_words(home: Path, tmp_path: Path) -> None:
    ticket = bring(tmp_path, ANNA, home)
    folder = resolve(ticket).parent
    (tmp_path / "rows.csv").write_text(ROWS)
    os.mkfifo(folder / "pipe.csv")
    (folder / "link.csv").symlink_to(tmp_path / "rows.csv")
    (folder / "folder.csv").mkdir()
    (home / "uploads" / f"{folder.name}x").symlink_to(tmp_path)
    start = ticket.rpartition("/")[0]
    names = [
        *(str(tmp_path / name) for name in ("rows.csv", "missing.csv")), str(resolve(ticket)), "", "a\0b.csv",
        "/etc/passwd", "/proc/self/environ", "/dev/zero", "~/x.csv", "~nobody-here/x.csv", "../rows.csv",
        "file:///etc/passwd", "http://localhost/x.csv", "\\\\server\\share\\x.csv", "//server/x.csv",
        *(f"{start}/{name}" for name in ("pipe.csv", "link.csv", "folder.csv", "gone.csv", "../../app.lock")),
        f"{start}x/rows.csv", "upload:../x.csv", "dataset:org--set/../../x",
    ]  # fmt: skip
    with asking(ANNA):
        said = set()
        for name in names:
            with pytest.raises(DataError) as caught:
                resolve(name)
            said.add(str(caught.value).replace(shown(name), "NAME"))
            with pytest.raises(DataError):
                table_facts(Path(name.replace("\0", "\x01") or "."))
    assert said == {"Here only uploaded files can be used, and NAME is none of yours. Upload it first."}


PROBES = ("/etc", "/nowhere", "~", "~root", "./x", "../x", "a/b/c", "file:///etc", "\\\\a\\b", "a\0b")


@pytest.mark.parametrize("name", PROBES)
def test_a_model_id_cannot_probe_the_disk(home: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    assert "A model is a name of the catalogue, or a Hub id such as owner/name." in str(caught.value)
    assert not is_own_folder(name) and known_params(name, 7) == 7


def test_a_folder_beside_the_app_is_no_model_and_hides_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_card("gpt2") is not None
    assert resolve_model("owner/name") == "owner/name"
    use_home(home, public=False)
    assert find_card("gpt2") is None and is_own_folder("owner/name")


def test_on_a_machine_of_ones_own_paths_stay_paths(home: Path, tmp_path: Path) -> None:
    use_home(home, public=False)
    file = tmp_path / "my rows.csv"
    file.write_text(ROWS)
    kept = keep_upload(file, home)
    assert named(kept) == str(kept) and len(kept.parent.name) == 16
    assert resolve(file) == file and whole("~/x.csv") == str(Path.home() / "x.csv")
    assert whole("~nobody-here/x.csv") == "~nobody-here/x.csv"


def test_uploads_that_a_run_names_by_ticket_are_kept(home: Path, tmp_path: Path) -> None:
    ticket, other = bring(tmp_path, ANNA, home), bring(tmp_path, BO, home)
    run = home / "runs" / "r"
    run.mkdir()
    (run / "config.json").write_text(f'{{"config": {{"task": {{"train_file": "{ticket}"}}}}}}')
    gone = clean_uploads(home, home / "runs", now=4e9)
    assert [place.name for place in gone] == [resolve_folder(other)] and resolve(ticket).is_file()


def resolve_folder(ticket: str) -> str:
    return ticket.partition(":")[2].partition("/")[0]


def test_a_hub_id_is_no_folder_of_the_working_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # comes back to where it was afterwards
    (home / "cache" / "empty" / "left").mkdir(parents=True)
    assert Path("owner/name").is_dir()
    stand_in_empty_folder(home / "cache")
    assert not Path("owner/name").exists() and not list(Path().iterdir())
    assert resolve_model("owner/name") == "owner/name"
    stand_in_empty_folder(home / "cache")
