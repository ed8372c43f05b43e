"""A class in real browsers: a teacher and two students; what one of them does, the others see."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import App, Watch, run_app, watched

pytestmark = pytest.mark.browser
KEY, CODE = "chalk-and-board", "KT49PX"
PHONE = {"width": 390, "height": 844}
FITS = "document.documentElement.scrollWidth <= innerWidth"


@dataclass
class Class:
    """A room with its pages."""

    app: App
    teacher: Page
    ann: Page
    mei: Page


def join(page: Page, app: App, name: str) -> None:
    page.goto(app.url)
    page.locator("[name=name]").fill(name)
    page.locator("[name=code]").fill(CODE.lower())
    page.locator("button").click()
    expect(page.locator("#tabs")).to_be_visible()


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    """A teacher, a student at a desk and one with a phone in Chinese; fails on any console error."""
    home: Path = tmp_path_factory.mktemp("class")
    given = {"PEFT_STUDIO_ACCESS": "class", "PEFT_STUDIO_JOIN_CODE": CODE, "PEFT_STUDIO_TEACHER_KEY": KEY,
             "PEFT_STUDIO_NO_TOKEN": "", "PEFT_STUDIO_PUBLIC_URL": "http://class.example"}  # fmt: skip
    with run_app(home, **given) as app:
        contexts: list[tuple[Page, Watch]] = [
            watched(browser, app), watched(browser, app), watched(browser, app, viewport=PHONE, locale="zh-CN"),
        ]  # fmt: skip
        teacher, ann, mei = (page for page, _ in contexts)
        teacher.goto(f"{app.url}?tab=room&token={KEY}")
        expect(teacher.locator("#room .ps-code")).to_have_text(CODE, timeout=60_000)
        for page, name in ((ann, "Ann"), (mei, "Mei")):
            join(page, app, name)
        yield Class(app, teacher, ann, mei)
        for page, watch in contexts:
            page.context.close()
            # A visitor who is nobody yet is answered 401 with the page where one comes in.
            assert [error for error in watch.errors if "401" not in error] == []
            assert watch.strangers == []


def test_the_teacher_sees_the_way_in_and_who_is_there(room: Class) -> None:
    teacher = room.teacher
    expect(teacher.locator("#room .ps-address")).to_have_text("http://class.example/")
    expect(teacher.locator("#room .ps-way img")).to_be_visible()
    expect(teacher.locator("#room tbody tr")).to_have_count(2)
    for student in (room.ann, room.mei):
        expect(student.get_by_role("tab", name="Room")).to_have_count(0)
    teacher.set_viewport_size(PHONE)
    assert teacher.evaluate(FITS)
    teacher.set_viewport_size({"width": 1440, "height": 900})


def test_a_question_is_answered_and_frozen(room: Class) -> None:
    teacher = room.teacher
    teacher.get_by_label("Setting that differs").select_option("training.max_steps")
    teacher.get_by_label("Values, dealt out in turn").fill("1, 2")
    teacher.get_by_role("button", name="Ask the room").click()
    expect(room.ann.locator(".ps-question code")).to_contain_text("training.max_steps =")
    expect(room.mei.locator(".ps-question h2")).to_have_text("老师的问题")
    assert room.mei.evaluate(FITS)
    room.ann.reload()
    expect(room.ann.locator(".ps-question .ps-button")).to_be_visible()
    room.ann.locator(".ps-question .ps-button").click()
    expect(room.ann.locator(".ps-question .ps-pill")).to_be_visible()
    expect(teacher.locator("#room .ps-plot .points path").first).to_be_visible(timeout=90_000)
    with teacher.expect_download() as download:
        teacher.get_by_role("link", name="Freeze into a report").click()
    page = Path(download.value.path()).read_text("utf-8")
    assert "<circle" in page and "Ann" in page and "<script" not in page


def test_a_paused_room_tells_everybody(room: Class) -> None:
    told = room.mei.locator("#room-state .ps-problem")
    expect(told).to_be_hidden()
    room.teacher.get_by_role("button", name="Pause the room").click()
    expect(told).to_be_visible()
    room.teacher.get_by_role("button", name="Let the room go on").click()
    expect(told).to_be_hidden()
