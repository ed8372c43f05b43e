"""The room of a class: its code, the names of who is in it, the teacher's key, and the page where one comes in."""

import hashlib
import html
import json
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import HTMLResponse
from starlette.types import Scope

from peft_studio.access.visitors import Role, Visitor
from peft_studio.errors import ConfigError, LimitError, NotAllowedError, shown
from peft_studio.files import atomic_write, read_json
from peft_studio.settings import Settings

LETTERS = "ACDEFHJKMNPQRTUVWXY34679"
"""Of a code that is read off a wall: none that looks like another."""
CODE_LENGTH = 6
LONGEST_NAME = 40
MOST_STUDENTS = 200
WRONG_TRIES = 40
"""Wrong codes from one address, which a whole class may share, within ``TRY_SECONDS``."""
TRY_SECONDS = 600.0
_ADDRESSES = 1000
_FIRST_SEEN = 0.0


@dataclass(frozen=True)
class Student:
    """Somebody in the room.

    Attributes:
        id: Of the visitor whom they are to the app.
        name: As they or the teacher wrote it.
        seen: When they last asked for something since the app was started, in seconds since the epoch; 0 for never.
    """

    id: str
    name: str
    seen: float


class Room:
    """Who may come in, and who is there; kept in ``room.json``, so that a restart sends nobody out.

    Args:
        settings: Home folder; code, key and list of names, as far as they were chosen.
        words_script: Address of the script that shows the page in the browser's language, from the app's own; none
            when empty.

    Attributes:
        code: What students write besides their name.
        key: By which the teacher is known.
        teacher_id: Of the teacher as a visitor; another key makes another teacher, and old cookies void.

    Raises:
        ConfigError: The list of names cannot be read.
    """

    open_paths: tuple[str, ...] = ("/studio/join",)

    def __init__(self, settings: Settings, words_script: str = "") -> None:
        self._path = settings.home / "room.json"
        self._words_script = words_script
        self._lock = threading.Lock()
        kept = read_json(self._path) or {}
        self.code = _plain_code(settings.join_code or _text(kept.get("code"))) or _new_code()
        self.key = settings.teacher_key or _text(kept.get("key")) or secrets.token_urlsafe(18)
        self.teacher_id = f"t-{hashlib.sha256(self.key.encode()).hexdigest()[:16]}"
        self._allowed = _names_in(settings.class_list)
        self._names = _students(kept.get("students"))
        self._seen: dict[str, float] = {}
        self._tries: OrderedDict[str, list[float]] = OrderedDict()
        self._write()

    def is_teacher(self, key: str) -> bool:
        """Whether a key is the teacher's."""
        return secrets.compare_digest(key.encode(), self.key.encode())

    def knows(self, visitor: Visitor) -> bool:
        """Whether a student is still in the room, who is then there now; or the teacher has the present key."""
        if visitor.role is Role.TEACHER:
            return secrets.compare_digest(visitor.id, self.teacher_id)
        with self._lock:
            if visitor.role is not Role.VISITOR or visitor.id not in self._names:
                return False
            self._seen[visitor.id] = time.time()
            return True

    def students(self) -> list[Student]:
        """Everybody in the room, by name."""
        with self._lock:
            found = [Student(who, name, self._seen.get(who, _FIRST_SEEN)) for who, name in self._names.items()]
        return sorted(found, key=lambda student: student.name.casefold())

    def join(self, name: str, code: str, address: str) -> Visitor:
        """Lets somebody in.

        Args:
            name: As they want to be called.
            code: As they read it; small letters and spaces do not matter.
            address: From where they ask.

        Raises:
            LimitError: Too many wrong codes have come from there.
            NotAllowedError: The code is wrong, the name is not on the list, or the room is full.
            ConfigError: The name is taken, or cannot be one.
        """
        with self._lock:
            self._check_code(code, address)
            name = self._usable(name)
            if len(self._names) >= MOST_STUDENTS:
                raise NotAllowedError(f"The room is full: {MOST_STUDENTS} names. The teacher can remove some.")
            visitor = Visitor(f"s-{secrets.token_hex(8)}", Role.VISITOR, name)
            self._names[visitor.id] = name
            self._seen[visitor.id] = time.time()
            self._write()
        return visitor

    def remove(self, who: str) -> None:
        """Sends a student out: their cookie no longer works, and their name is free.

        Raises:
            ConfigError: Nobody in the room has this id.
        """
        with self._lock:
            self._there(who)
            del self._names[who]
            self._seen.pop(who, None)
            self._write()

    def rename(self, who: str, name: str) -> None:
        """Gives a student another name.

        Raises:
            ConfigError: Nobody has this id, or the name is taken or cannot be one.
            NotAllowedError: It is not on the class list.
        """
        with self._lock:
            self._there(who)
            self._names[who] = self._usable(name, who)
            self._write()

    def join_page(self, scope: Scope, words: str = "", name: str = "", status: int = 401) -> HTMLResponse:
        """The page where one comes in.

        Args:
            scope: Of the request; tells how deep its address is.
            words: Why it did not work; plain text.
            name: What was written as a name.
            status: Of the answer.
        """
        up = "../" * (scope["path"].count("/") - 1)
        told = f'<p role="alert">{html.escape(words)}</p>' if words else ""
        script = f'<script type="module" src="{up}{self._words_script}"></script>' if self._words_script else ""
        held = {"title": _TITLE, "name_label": _NAME, "code_label": _CODE, "button": _BUTTON, "why": _WHY}
        page = _PAGE.format(action=f"{up}studio/join", told=told, name=html.escape(name[:200]), script=script, **held)
        return HTMLResponse(page, status)

    def _there(self, who: str) -> None:
        if who not in self._names:
            raise ConfigError(f"Nobody in the room has the id {shown(who)}.")

    def _check_code(self, code: str, address: str) -> None:
        now = time.monotonic()
        tries = [when for when in self._tries.get(address, []) if now - when < TRY_SECONDS]
        if len(tries) >= WRONG_TRIES:
            wait = TRY_SECONDS - (now - tries[0])
            raise LimitError(f"Too many wrong codes came from here. Try again in {wait / 60:.0f} minutes.", wait)
        given = _plain_code(code)
        if secrets.compare_digest(given.encode(), self.code.encode()):
            return
        self._tries[address] = [*tries, now]
        self._tries.move_to_end(address)
        while len(self._tries) > _ADDRESSES:
            self._tries.popitem(last=False)
        raise NotAllowedError("This is not the room's code. The teacher shows it; it has only letters and digits.")

    def _usable(self, name: str, who: str = "") -> str:
        """A name as it is kept."""
        name = " ".join(unicodedata.normalize("NFKC", name).split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise ConfigError(f"A name has 1 to {LONGEST_NAME} characters that can be printed, not {shown(name, 60)}.")
        if self._allowed:
            if name.casefold() not in self._allowed:
                raise NotAllowedError(f"{shown(name)} is not on the class list. Write your name as it is there.")
            name = self._allowed[name.casefold()]
        if any(other.casefold() == name.casefold() and one != who for one, other in self._names.items()):
            raise ConfigError(f"Somebody is called {name} already. Choose another name, or ask the teacher.")
        return name

    def _write(self) -> None:
        kept = {"code": self.code, "key": self.key, "students": self._names}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._path, json.dumps(kept, ensure_ascii=False, indent=1))
        self._path.chmod(0o600)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _plain_code(code: str) -> str:
    """A code without what does not matter in it."""
    return "".join(letter for letter in code.upper() if letter.isalnum())[:64]


def _new_code() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))


def _students(value: object) -> dict[str, str]:
    found = value.items() if isinstance(value, dict) else ()
    return {who: name for who, name in found if isinstance(who, str) and isinstance(name, str)}


def _names_in(path: Path | None) -> dict[str, str]:
    """The names of a class list, one in a line, by themselves in small letters; empty without a list."""
    if path is None:
        return {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"The class list {shown(str(path))} cannot be read as UTF-8 text.", "class_list") from exc
    names = [" ".join(unicodedata.normalize("NFKC", line).split()) for line in lines]
    found = {name.casefold(): name for name in names if name}
    if not found:
        raise ConfigError(f"The class list {shown(str(path))} has no name in it: one in a line.", "class_list")
    return found


_TITLE = "Join the room"
_NAME = "Your name"
_CODE = "Code of the room"
_BUTTON = "Come in"
_WHY = "Your teacher shows the code, and sees your name; nothing else is asked of you."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>PEFT Studio</title>
<style>:root {{ color-scheme: light dark;
--line: #dedbd5; --ink: #1c1d21; --bg: #f7f7f5; --card: #fff; --bad: #b3261e; }}
@media (prefers-color-scheme: dark) {{ :root {{
--line: #2b313a; --ink: #eceef2; --bg: #0f1114; --card: #16191e; --bad: #ff8f85; }} }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 "IBM Plex Sans", system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
margin: 0; padding: min(10vh, 5rem) 1rem 2rem; background: var(--bg); color: var(--ink); }}
main {{ max-width: 24rem; margin: 0 auto; padding: 1.25rem 1.25rem 1.5rem; background: var(--card);
border: 1px solid var(--line); border-radius: 14px; }}
h1 {{ font-size: 1.4rem; margin: 0; }} p {{ margin: .4rem 0 0; overflow-wrap: anywhere; }}
small {{ display: block; margin: 0 0 .2rem; letter-spacing: .02em; }}
label {{ display: block; margin-top: 1.1rem; font-weight: 550; }}
input, button {{ font: inherit; width: 100%; padding: .7rem .8rem; margin-top: .3rem; border-radius: 10px; }}
input {{ border: 1px solid var(--line); background: var(--bg); color: inherit; font-weight: 400; }}
[name=code] {{ text-transform: uppercase; letter-spacing: .2em; font-size: 1.25rem; }}
button {{ border: 0; background: var(--ink); color: var(--card); font-weight: 600; margin-top: 1.4rem; }}
[role=alert] {{ border-left: 4px solid var(--bad); padding-left: .75rem; }}</style></head>
<body><main><small>PEFT Studio</small><h1>{title}</h1><p>{why}</p>{told}
<form method="post" action="{action}">
<label>{name_label} <input name="name" value="{name}" maxlength="40" autocomplete="nickname" required></label>
<label>{code_label}
<input name="code" maxlength="20" autocomplete="off" autocapitalize="characters" required></label>
<button>{button}</button></form></main>{script}</body></html>
"""
