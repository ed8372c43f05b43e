"""The room of a class: who may come in, who is there, and that a restart sends nobody out."""

from pathlib import Path

import pytest

from peft_studio.access.room import LETTERS, WRONG_TRIES, Room
from peft_studio.access.visitors import Role, Visitor
from peft_studio.errors import ConfigError, LimitError, NotAllowedError
from peft_studio.settings import Access, Settings


def room_of(home: Path, **given: object) -> Room:
    return Room(Settings.model_validate({"home": home, "access": Access.CLASS, **given}))


def test_a_restart_keeps_code_key_and_students(tmp_path: Path) -> None:
    room = room_of(tmp_path)
    assert len(room.code) == 6 and set(room.code) <= set(LETTERS)
    mei = room.join("Mei", room.code, "1.2.3.4")
    again = room_of(tmp_path)
    assert (again.code, again.key) == (room.code, room.key)
    assert again.knows(mei) and [one.name for one in again.students()] == ["Mei"]
    assert (tmp_path / "room.json").stat().st_mode & 0o077 == 0


def test_a_code_is_read_as_people_write_it(tmp_path: Path) -> None:
    room = room_of(tmp_path, join_code="KT4 9PX")
    assert room.join("Ann", " kt49-px ", "a").role is Role.VISITOR


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\x00b", "left\u202eright"])
def test_what_cannot_be_a_name(tmp_path: Path, name: str) -> None:
    room = room_of(tmp_path)
    with pytest.raises(ConfigError, match="1 to 40"):
        room.join(name, room.code, "a")


def test_a_name_is_one_student_s(tmp_path: Path) -> None:
    room = room_of(tmp_path)
    ann = room.join("Ann", room.code, "a")
    with pytest.raises(ConfigError, match="already"):
        room.join(" ann ", room.code, "a")
    bo = room.join("Bo", room.code, "a")
    with pytest.raises(ConfigError, match="already"):
        room.rename(bo.id, "ANN")
    room.rename(bo.id, "Bob")
    room.remove(ann.id)
    assert not room.knows(ann) and [one.name for one in room.students()] == ["Bob"]
    with pytest.raises(ConfigError, match="Nobody"):
        room.remove(ann.id)
    room.join("Ann", room.code, "a")


def test_wrong_codes_are_slowed_down_for_their_address_alone(tmp_path: Path) -> None:
    room = room_of(tmp_path, join_code="RIGHT1")
    for _ in range(WRONG_TRIES):
        with pytest.raises(NotAllowedError, match="not the room's code"):
            room.join("Eve", "WRONG", "6.6.6.6")
    with pytest.raises(LimitError) as refused:
        room.join("Eve", "RIGHT1", "6.6.6.6")
    assert refused.value.retry_seconds and refused.value.retry_seconds > 0
    room.join("Ann", "RIGHT1", "7.7.7.7")


def test_a_class_list_says_who_may_come_in(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Mei Lin\n\nAnn\n")
    room = room_of(tmp_path, class_list=names)
    assert room.join("mei  lin", room.code, "a").name == "Mei Lin"
    with pytest.raises(NotAllowedError, match="not on the class list"):
        room.join("Eve", room.code, "a")
    for wrong in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            room_of(tmp_path, class_list=wrong)


def test_only_who_has_come_in_is_known(tmp_path: Path) -> None:
    room = room_of(tmp_path, teacher_key="chalk and a board")
    assert room.is_teacher("chalk and a board") and not room.is_teacher("") and not room.is_teacher("chalk ñ")
    assert not room.knows(Visitor("s-made-up", Role.VISITOR)) and room.knows(Visitor(room.teacher_id, Role.TEACHER))
    other = room_of(tmp_path, teacher_key="another key")
    assert not other.knows(Visitor(room.teacher_id, Role.TEACHER))  # with the key, old cookies go
