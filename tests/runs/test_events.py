"""The event log: whole lines, finite numbers, a reader that never sees half of one."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from peft_studio.runs.event_log import PIECE_BYTES, STEP_PREFIX, LogFollower, Piece, last_event, parse_events
from peft_studio.runs.events import EventWriter


def new(follower: LogFollower) -> list[dict[str, Any]]:
    """The events that were appended since the last call."""
    return [event for piece in follower.pieces() for event in piece.events]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.emit("step", step=1, loss=math.nan, metrics={"a": [math.inf, 1.5]})
    follower = LogFollower(path)
    events = new(follower)
    assert (events[0]["loss"], events[0]["metrics"]) == (None, {"a": [None, 1.5]})
    writer.emit("stage", name="läuft\nweiter")
    writer.close()
    assert [event["name"] for event in new(follower)] == ["läuft\nweiter"]


def test_missing_file_reads_as_empty(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path / "none")
    assert new(follower) == [] and not follower.restarted() and follower.offset == 0
    assert last_event(tmp_path / "none") is None


def test_a_reader_beside_a_writer_sees_every_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)

    def write() -> None:
        for step in range(3000):
            writer.emit("step", step=step, text="x" * (step % 300))

    thread = threading.Thread(target=write)
    thread.start()
    follower, seen = LogFollower(path), []
    while len(seen) < 3000:
        seen += [event["step"] for event in new(follower)]
        assert not seen or (last_event(path) or {})["step"] >= seen[-1]
    thread.join()
    writer.close()
    assert seen == list(range(3000))


def test_lines_that_are_not_events_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\n[]\n7\n{"kind":7}\n\n{"kind":"stage","name":"a"}\n{"kind":"st')
    assert [event["name"] for event in new(LogFollower(path))] == ["a"]
    assert [event["name"] for piece in LogFollower(path).pieces() for event in parse_events(piece.lines)] == ["a"]
    assert (last_event(path) or {})["name"] == "a"


def test_lines_longer_than_a_piece_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    texts = ["x" * size for size in (3, PIECE_BYTES, 3 * PIECE_BYTES, 0, PIECE_BYTES // 2, PIECE_BYTES // 2, 1)]
    for text in texts:
        writer.emit("note", message=text)
    writer.close()
    follower = LogFollower(path)
    assert [event["message"] for event in new(follower)] == texts and follower.offset == path.stat().st_size
    lines = [line for piece in LogFollower(path).pieces() for line in piece.lines]
    assert lines == path.read_bytes().splitlines()
    assert new(follower) == [] and not follower.restarted()
    path.write_bytes(b"{}\n")
    assert follower.restarted() and not follower.restarted()
    assert [piece.lines for piece in follower.pieces()] == [[b"{}"]]


def test_a_file_in_place_of_another_is_read_from_its_start(tmp_path: Path) -> None:
    path, other = tmp_path / "events.jsonl", tmp_path / "other"
    path.write_bytes(b'{"kind":"note","message":"old"}\n')
    follower = LogFollower(path)
    assert len(new(follower)) == 1
    other.write_bytes(b'{"kind":"note","message":"new, and longer"}\n')
    other.replace(path)
    assert follower.restarted()
    assert [event["message"] for event in new(follower)] == ["new, and longer"]


def test_stretches_are_steps_together_and_all_else_alone() -> None:
    kinds = ["step", "step", "eval", "note", "step", "stage"]
    piece = Piece(b"".join(b'{"kind":"%s"}\n' % kind.encode() for kind in kinds))
    found = [[event["kind"] for event in stretch] for stretch in piece.stretches]
    assert found == [["step", "step"], ["eval"], ["note"], ["step"], ["stage"]]


@pytest.mark.parametrize("kinds", ["s", "o", "so", "os", "sso", "oosssoos", "x", "xsxoxs", "", "sxs"])
def test_an_outline_is_the_same_whether_steps_are_parsed_or_not(kinds: str) -> None:
    lines = {"s": STEP_PREFIX + b'"step":%d}', "o": b'{"v":1,"kind":"note","step":%d}', "x": b"torn %d"}
    data = b"".join(lines[kind] % place + b"\n" for place, kind in enumerate(kinds)) or b"\n"
    rough, parsed = Piece(data), Piece(data)
    assert len(parsed.events) == len(kinds) - kinds.count("x")
    flat = [item for stretch in rough.outline for item in stretch]
    assert [item if isinstance(item, dict) else parse_events([item])[0] for item in flat] == parsed.events
    assert [item for stretch in parsed.outline for item in stretch] == parsed.events
