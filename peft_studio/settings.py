"""Where the app listens, keeps its data and how much of the machine it may use.

``app.py`` and ``__main__.py`` pass their environment in; nothing else in the package reads it to decide anything.
"""

import ipaddress
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_studio.errors import ConfigError, StorageError, shown
from peft_studio.files import make_private
from peft_studio.machine.devices import VISIBLE, count_gpus
from peft_studio.machine.home_probe import what_is_lacking

DEFAULT_PORT = 7860


class Access(StrEnum):
    """Who is meant to use the app; `access.rights.RIGHTS` has what each may do."""

    PRIVATE = "private"
    CLASS = "class"
    PUBLIC = "public"
    DEMO = "demo"


def default_home() -> Path:
    """The folder that holds runs and caches when ``PEFT_STUDIO_HOME`` is not set."""
    return Path.home() / ".peft-studio"


class Limits(BaseModel):
    """What a visitor may have, and all together; 0 sets no limit, and what is not given is as `DEFAULT_LIMITS` says.

    The owner of the app, and the teacher of a class, are not bound by them.

    Attributes:
        most_queued: Runs of a visitor that wait.
        all_queued: Runs that wait in all.
        most_running: Runs of a visitor at work at a time.
        most_tokens: Tokens that a run may read: steps times rows of a step times the longest row.
        most_minutes: Minutes that a run may take. One that would take longer by the estimate is refused; one that
            does is stopped, and saves its adapter.
        most_generated: Tokens that a visitor has generated in a minute.
        all_generated: The same in all.
        most_mb: Megabytes that a visitor's runs, uploads and fetched data may take together.
        all_mb: The same of all visitors.
        most_requests: Requests of a visitor in a minute; of one address, for whoever has no cookie yet.
        most_idle_days: Days without a visit after which the things of a visitor are deleted.
    """

    most_queued: int | None = Field(None, ge=0)
    all_queued: int | None = Field(None, ge=0)
    most_running: int | None = Field(None, ge=0)
    most_tokens: int | None = Field(None, ge=0)
    most_minutes: float | None = Field(None, ge=0)
    most_generated: int | None = Field(None, ge=0)
    all_generated: int | None = Field(None, ge=0)
    most_mb: float | None = Field(None, ge=0)
    all_mb: float | None = Field(None, ge=0)
    most_requests: int | None = Field(None, ge=0)
    most_idle_days: float | None = Field(None, ge=0)


class Settings(Limits):
    """Everything that comes from the command line or the environment.

    Attributes:
        home: Folder for runs and caches (``PEFT_STUDIO_HOME``).
        host: Address to listen on.
        port: TCP port to listen on.
        max_running: Training workers at a time; half the cores; `load_settings` makes it one for each GPU.
        threads: CPU threads for each worker and for the engine.
        access: Who uses the app (``PEFT_STUDIO_ACCESS``): its owner alone, a class, anybody, or
            anybody who only looks. Public on a Space (``SPACE_ID``) and where it listens beyond this machine, else
            private.
        token: By which the owner is known (``PEFT_STUDIO_TOKEN``); a private app makes one when it is empty.
        no_token: Whether a private app asks for none: whoever comes from this machine is its owner.
        join_code: What students of a class write to come in; made when it is empty.
        teacher_key: By which the teacher of a class is known; made when it is empty.
        class_list: File of the names that may come in, one in a line; any name when None.
        public_url: The address that students open, where the app cannot know it: behind a tunnel, say.
        allowed_hosts: Names that the app is known by besides this machine's; commas between them, ``*.`` before a
            domain for all in it.
        trusted_proxies: Addresses and networks whose ``X-Forwarded-*`` headers are believed; this machine's
            when empty.
        space_id: Of the Space that the app runs on (``SPACE_ID``); empty elsewhere.
        space_host: Its name (``SPACE_HOST``); commas between several.
        space_author: Who owns it (``SPACE_AUTHOR_NAME``).
        visible_gpus: Which GPUs may be used (``CUDA_VISIBLE_DEVICES``); all when None, none when empty.
        auto_resume: Whether runs that were cut short (killed, or the machine went down) go on by themselves.
        keep_runs: How many runs that are over are kept; older ones are deleted. 0 keeps all.
        keep_days: Days for which a run that is over is kept. 0 keeps all.
        quota_mb: Megabytes that all runs may take before new ones are refused. 0 sets no limit.
        quota_warn_mb: Megabytes from which the page warns; 0 means four fifths of the quota.
        executor: Where workers run: on this machine, or on the nodes of a Ray cluster.
        ray_address: Of the cluster; when empty, one that runs on this machine, or one that is started for the app.
        ray_cpus: CPUs that a run takes on the cluster unless its config says otherwise; as many as ``threads`` by
            default.
        ray_gpus: GPUs, likewise; a fraction shares one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    home: Path = Field(default_factory=default_home)
    host: str = "127.0.0.1"
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    max_running: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2), ge=1, le=256)
    threads: int = Field(default_factory=lambda: 2 if (os.cpu_count() or 1) >= 2 else 1, ge=1, le=256)
    access: Access = Access.PRIVATE
    token: str = Field("", repr=False)
    no_token: bool = False
    join_code: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9 -]*$")
    teacher_key: str = Field("", repr=False)
    class_list: Path | None = None
    public_url: str = Field("", max_length=500, pattern=r"^(https?://[^\s\"'<>]+)?$")
    allowed_hosts: str = ""
    trusted_proxies: str = ""
    space_id: str = ""
    space_host: str = ""
    space_author: str = ""
    visible_gpus: str | None = None
    auto_resume: bool = True
    keep_runs: int = Field(0, ge=0)
    keep_days: float = Field(0, ge=0)
    quota_mb: float = Field(0, ge=0)
    quota_warn_mb: float = Field(0, ge=0)
    executor: Literal["local", "ray"] = "local"
    ray_address: str = ""
    ray_cpus: float | None = Field(None, ge=0, le=1024)
    ray_gpus: float = Field(0, ge=0, le=64)

    def limit(self, name: str) -> float:
        """A limit, by its name in `Limits`; 0 when there is none."""
        given = getattr(self, name)
        return float(given if given is not None else DEFAULT_LIMITS[self.access].get(name, 0))

    @property
    def public(self) -> bool:
        """Whether others than its owner use the app: they may name no file of the machine."""
        return self.access is not Access.PRIVATE

    @property
    def on_space(self) -> bool:
        """Whether the app runs on a Space of Hugging Face, in a frame of its page and behind its proxy."""
        return bool(self.space_id)

    @property
    def runs_dir(self) -> Path:
        """The folder that holds one folder per run."""
        return self.home / "runs"

    @property
    def cache_dir(self) -> Path:
        """Everything here can be deleted and is rebuilt."""
        return self.home / "cache"


DEFAULT_LIMITS: Mapping[Access, Mapping[str, float]] = {
    Access.PRIVATE: {},
    Access.CLASS: {
        "most_queued": 8, "all_queued": 300, "most_running": 2, "most_tokens": 100_000_000, "most_minutes": 60,
        "most_generated": 5000, "all_generated": 60_000, "most_mb": 1000, "all_mb": 20_000, "most_requests": 1200,
    },
    Access.PUBLIC: {
        "most_queued": 4, "all_queued": 100, "most_running": 1, "most_tokens": 20_000_000, "most_minutes": 30,
        "most_generated": 3000, "all_generated": 30_000, "most_mb": 500, "all_mb": 20_000, "most_requests": 900,
        "most_idle_days": 14,
    },
    Access.DEMO: {"most_generated": 3000, "all_generated": 30_000, "most_requests": 900},
}  # fmt: skip
"""Limits of each way of being run."""


_ENV = {name: f"PEFT_STUDIO_{name.upper()}" for name in Settings.model_fields if name != "visible_gpus"}
_ENV |= {"host": "GRADIO_SERVER_NAME", "port": "GRADIO_SERVER_PORT"}
_ENV |= {"space_id": "SPACE_ID", "space_host": "SPACE_HOST", "space_author": "SPACE_AUTHOR_NAME"}
"""The environment's names of settings."""


def load_settings(env: Mapping[str, str], **overrides: object) -> Settings:
    """Builds the settings from an environment, explicit values winning.

    Args:
        env: Usually ``os.environ``.
        **overrides: Values from the command line; ``None`` means not given.

    Raises:
        ConfigError: A value is not allowed.
    """
    values: dict[str, object] = {key: env[name] for key, name in _ENV.items() if env.get(name)}
    if env.get("SPACE_ID"):
        values.setdefault("host", "0.0.0.0")
    values["visible_gpus"] = env.get(VISIBLE)
    if gpus := count_gpus(env.get(VISIBLE)):
        values.setdefault("max_running", gpus)  # one run may fill a GPU's memory
    values.update({key: value for key, value in overrides.items() if value is not None})
    if env.get("SPACE_ID") or not is_loopback(str(values.get("host", "127.0.0.1"))):
        values.setdefault("access", Access.PUBLIC)
    for name in ("home", "class_list"):
        if name in values:
            values[name] = _folder(str(values[name]), name)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = str(first["loc"][0])
        raise ConfigError(f"{_ENV.get(key, key)} = {shown(first['input'])}: {first['msg']}.", key) from exc


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _folder(path: str, name: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (ValueError, RuntimeError, OSError) as exc:  # a zero byte, nobody's home, links in a circle
        what = "a folder" if name == "home" else "a file"
        raise ConfigError(f"{_ENV[name]} = {shown(path)} cannot be the name of {what}.", name) from exc


_OURS = (
    "runs", "experiments", "cache", "uploads", "datasets", "queue.json", "app.lock", "ray-name", "visits.json",
)  # fmt: skip
"""What a home folder holds; whatever else lies there is somebody's own."""


def prepare_home(settings: Settings) -> None:
    """Creates the home folder, its owner's alone, and finds out whether its file system can do what runs need.

    Raises:
        StorageError: It cannot be created or written, or the file system lacks something.
    """
    try:
        settings.runs_dir.mkdir(parents=True, exist_ok=True)
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        make_private(settings.home, _OURS)
        lacking = what_is_lacking(settings.home)
    except OSError as exc:
        raise StorageError(
            f"The home folder {settings.home} cannot be written ({exc.strerror or exc}). "
            "Choose another with PEFT_STUDIO_HOME or --home."
        ) from exc
    if lacking:
        raise StorageError(
            f"The file system of {settings.home} lacks {'; '.join(lacking)}. A mounted bucket is often like that. "
            "Choose a folder on a disk with PEFT_STUDIO_HOME or --home, and keep finished runs in the bucket: "
            "export-run packs one."
        )
