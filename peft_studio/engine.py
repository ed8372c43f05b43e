"""The inference process of the app: estimates and text, over a Unix-domain socket.

One JSON request line per connection; answers are JSON lines, then the connection closes. A client that closes early
stops the work. Models stay in memory between requests.

    {"op": "ping"}                                             -> {"ok": true}
    {"op": "check", "config": {...}}                           -> {"ok": true}; see training.estimates.loadable
    {"op": "estimate", "config": {...}}                        -> see training.estimates.estimate
    {"op": "preview", "config": {...}}                         -> see training.estimates.preview
    {"op": "generate", "model": id, "runs": [...], "prompt": text, "sampling": {...}}
                                                               -> {"columns": [{"name", "text", "done", ...}]}, often
    {"op": "merge", "run": id, "folder": path}                 -> {"max_difference": number}, the model in the folder
    {"op": "inspect", ...}                                     -> and others: see training.inspection.inspector
    {"op": "tokens", ...}                                      -> and others: see training.inference.questions
    any error                                                  -> {"error": see errors.StudioError.to_dict}
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import DEFAULT_MODEL, parse_config
from peft_studio.config.sampling import parse_sampling
from peft_studio.errors import EngineError, StudioError, did_you_mean, unforeseen
from peft_studio.files import write_privately
from peft_studio.machine.path_policy import use_home
from peft_studio.methods import METHODS
from peft_studio.runs.store import RunStore
from peft_studio.tasks.kept_rows import use_folder
from peft_studio.training.estimates.estimate import estimate
from peft_studio.training.estimates.loadable import check_loadable
from peft_studio.training.estimates.preview import encode_ahead, preview
from peft_studio.training.formats.chats import asked
from peft_studio.training.inference.classify import label_columns
from peft_studio.training.inference.generate import stream_columns
from peft_studio.training.inference.model_pool import LRUCache, ModelPool
from peft_studio.training.inference.questions import Questions, chosen_columns
from peft_studio.training.inspection.inspector import Inspector
from peft_studio.training.merging import merge_adapter
from peft_studio.training.quiet import be_quiet

MAX_REQUEST = 1 << 20  # bytes of a request line
LONGEST_PAUSE = 2.0  # seconds that text waits for estimates at most
CALM_SECONDS = 1.0  # without a change of the form, after which its rows are tokenized
QUIET_START = 20.0  # seconds after which rows are made that nobody has asked for yet


class Urgent:
    """Lets estimates go before text: columns pause between tokens while an estimate is being made."""

    def __init__(self) -> None:
        self._count = 0
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            self._free.clear()

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._free.set()

    def give_way(self) -> None:
        """Waits until nothing urgent runs."""
        self._free.wait(LONGEST_PAUSE)


class Engine:
    """Answers requests; any number of threads may ask at once.

    Args:
        home: The home folder; runs and their adapters are looked up in it at every request.
    """

    def __init__(self, home: Path) -> None:
        self._store = RunStore(home / "runs")
        self._cache = home / "cache"
        self._ahead: threading.Timer | None = None
        self._pool = ModelPool()
        self._estimates: LRUCache[str, dict[str, Any]] = LRUCache(256)
        self._urgent = Urgent()
        self._merging = threading.Lock()
        self._operations: dict[str, Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]] = {
            "ping": self._ping,
            "check": self._check,
            "estimate": self._estimate,
            "preview": self._preview,
            "generate": self._generate,
            "merge": self._merge,
            **Inspector(self._store, self._pool).operations,
            **Questions(self._store, self._pool, self._cache).operations,
        }

    def answer(self, request: object) -> Iterator[dict[str, Any]]:
        """Answers one request, lazily.

        Raises:
            StudioError: The request cannot be met; the message says why.
        """
        if not isinstance(request, Mapping) or request.get("op") not in self._operations:
            op = request.get("op") if isinstance(request, Mapping) else request
            raise EngineError(f"There is no operation {op!r}. {did_you_mean(str(op), self._operations)}")
        return self._operations[request["op"]](request)

    def warm_up(self) -> None:
        """Loads the default model and makes one estimate, so that the first request finds both ready."""
        self._pool.base(DEFAULT_MODEL)
        list(self._estimate({"config": {"method": {"name": next(iter(METHODS))}, "training": {}}}))
        list(self._generate({"model": DEFAULT_MODEL, "prompt": "The", "sampling": {"max_new_tokens": 2}}))

    def _ping(self, _request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"ok": True, "pid": os.getpid()}

    def _check(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with self._urgent:
            check_loadable(resolve(parse_config(request.get("config"))))
        yield {"ok": True}

    def _estimate(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        run = resolve(parse_config(request.get("config")))
        with self._urgent:
            check_loadable(run)  # not only the first time: files may have changed
            yield self._estimates.get(run.config.model_dump_json(), lambda: estimate(run))
        if self._ahead:
            self._ahead.cancel()
        self._ahead = threading.Timer(CALM_SECONDS, self._encode_ahead, [run])
        self._ahead.daemon = True
        self._ahead.start()

    def _encode_ahead(self, run: ResolvedRun) -> None:
        self._urgent.give_way()
        with contextlib.suppress(StudioError):  # who starts such a run is told
            encode_ahead(run, self._cache)

    def _preview(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield preview(resolve(parse_config(request.get("config"))))

    def _generate(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        sampling = parse_sampling(request.get("sampling") or {})
        chosen = chosen_columns(self._store, self._pool, request)
        columns, tokenizer, labels = chosen.columns, chosen.tokenizer, chosen.variant.labels
        prompt = str(request.get("prompt") or "")
        if labels:
            yield {"columns": label_columns(columns, tokenizer, prompt, labels)}
            return
        groups = self._pool.groups(columns, chosen.model, chosen.variant)
        question = asked(prompt, chosen.chats)
        for states in stream_columns(columns, tokenizer, question, sampling, self._urgent.give_way, groups):
            yield {"columns": states, "chat": chosen.chats}

    def _merge(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        run = str(request.get("run"))
        resolved, adapter = resolve(self._store.config(run)), self._store.paths(run).adapter
        with self._merging:  # a merge holds two copies of a model
            yield {"max_difference": merge_adapter(resolved, adapter, Path(str(request.get("folder"))))}


def serve(engine: Engine, listener: socket.socket, wanted: Callable[[], bool]) -> None:
    """Accepts connections as long as somebody wants the engine."""
    listener.settimeout(1.0)
    while wanted():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        threading.Thread(target=_serve_one, args=(engine, connection), daemon=True).start()


def _serve_one(engine: Engine, connection: socket.socket) -> None:
    connection.settimeout(60.0)
    with connection, contextlib.suppress(OSError):  # the client has gone
        try:
            with contextlib.closing(_answers(engine, connection)) as answers:
                for value in answers:
                    _send(connection, value)
        except StudioError as exc:
            _send(connection, {"error": exc.to_dict()})
        except OSError:
            raise
        except Exception as exc:  # a fault of ours: the log has the trace, the client the words
            traceback.print_exc()
            _send(connection, {"error": EngineError(unforeseen(exc)).to_dict()})


def _answers(engine: Engine, connection: socket.socket) -> Generator[dict[str, Any]]:
    with connection.makefile("rb") as lines:
        line = lines.readline(MAX_REQUEST)
    if not line:
        return
    try:
        request = json.loads(line)
    except ValueError as exc:
        raise EngineError(f"The request is not a JSON line of at most {MAX_REQUEST} bytes.") from exc
    yield from engine.answer(request)


def _send(connection: socket.socket, value: dict[str, Any]) -> None:
    connection.sendall(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: ``python -m peft_studio.engine --socket PATH --home HOME --threads N --app PID``."""
    parser = argparse.ArgumentParser(prog="python -m peft_studio.engine", description="The app's inference process.")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--home", type=Path, required=True, help="home folder of the app")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--app", type=int, help="process without which nobody wants this one")
    parser.add_argument("--public", action="store_true", help="read only files that visitors brought")
    options = parser.parse_args(argv)
    write_privately()
    wanted = _is_wanted(options.app)
    torch.set_num_threads(options.threads)
    be_quiet()
    use_folder(options.home / "cache")
    use_home(options.home, options.public)
    engine = Engine(options.home)
    listener = _listen(options.socket)
    threading.Thread(target=_warm_up, args=(engine, options.home), daemon=True).start()
    with listener:
        serve(engine, listener, wanted)
    return 0


def _is_wanted(app: int | None) -> Callable[[], bool]:
    """Tells whether the parent and the app live; the parent alone may have gone before it was looked at."""
    parent = os.getppid()
    try:
        process = psutil.Process(app or parent)
    except psutil.NoSuchProcess:
        return lambda: False
    return lambda: os.getppid() == parent and process.is_running()


def _warm_up(engine: Engine, home: Path) -> None:
    begun = time.perf_counter()
    try:
        engine.warm_up()
    except Exception:  # the first request meets the same fault and reports it
        traceback.print_exc()
    print(f"engine ready after {time.perf_counter() - begun:.2f} s", flush=True)
    time.sleep(QUIET_START)
    command = [sys.executable, "-m", "peft_studio.tasks", str(home / "cache")]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=False)  # in a process of its own: it takes a core


if __name__ == "__main__":
    sys.exit(main())
