"""The event log: whole lines, finite numbers, a reader that never sees half of one."""

import math
import threading
from pathlib import Path

from peft_studio.runs.event_log import PIECE_BYTES, LogFollower, events_but_steps, parse_events, parse_piece
from peft_studio.runs.events import EventWriter, read_new


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.emit("step", step=1, loss=math.nan, metrics={"a": [math.inf, 1.5]})
    events, offset = read_new(path)
    assert (events[0]["loss"], events[0]["metrics"]) == (None, {"a": [None, 1.5]})
    writer.emit("stage", name="läuft\nweiter")
    writer.close()
    events, _ = read_new(path, offset)
    assert [event["name"] for event in events] == ["läuft\nweiter"]


def test_missing_file_reads_as_empty(tmp_path: Path) -> None:
    assert read_new(tmp_path / "none", 5) == ([], 5)
    assert LogFollower(tmp_path / "none").read() == []


def test_a_reader_beside_a_writer_sees_every_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)

    def write() -> None:
        for step in range(3000):
            writer.emit("step", step=step, text="x" * (step % 300))

    thread = threading.Thread(target=write)
    thread.start()
    follower, seen, offset, also_seen = LogFollower(path), [], 0, []
    while len(seen) < 3000 or len(also_seen) < 3000:
        seen += [event["step"] for event in parse_events(follower.read())]
        events, offset = read_new(path, offset)
        also_seen += [event["step"] for event in events]
    thread.join()
    writer.close()
    assert seen == also_seen == list(range(3000))


def test_lines_that_are_not_events_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\n[]\n7\n{"kind":7}\n\n{"kind":"stage","name":"a"}\n{"kind":"st')
    assert [event["name"] for event in parse_events(LogFollower(path).read())] == ["a"]
    assert [event["name"] for event in read_new(path)[0]] == ["a"]
    events = [event for piece in LogFollower(path).pieces() for event in parse_piece(piece)]
    assert [event["name"] for event in events] == [event["name"] for event in events_but_steps(path)] == ["a"]


def test_lines_longer_than_a_piece_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    texts = ["x" * size for size in (3, PIECE_BYTES, 3 * PIECE_BYTES, 0, PIECE_BYTES // 2, PIECE_BYTES // 2, 1)]
    for text in texts:
        writer.emit("note", message=text)
    writer.close()
    follower = LogFollower(path)
    found = [event["message"] for piece in follower.pieces() for event in parse_piece(piece)]
    assert found == texts and follower.offset == path.stat().st_size
    assert LogFollower(path).read() == path.read_bytes().splitlines()
    assert follower.read() == [] and not follower.restarted()
    path.write_bytes(b"{}\n")
    assert follower.restarted() and not follower.restarted() and follower.read() == [b"{}"]
