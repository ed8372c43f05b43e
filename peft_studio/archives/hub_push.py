"""An adapter goes to the Hugging Face Hub: what its zip holds, as a model repository of whoever's token is given."""

import contextlib
import tempfile
import zipfile
from pathlib import Path

from peft_studio.archives.adapter_archive import export_zip, exportable
from peft_studio.errors import NotAllowedError, StorageError
from peft_studio.models.hub import check_repository, refusal, require_hub
from peft_studio.runs.paths import RunPaths

MESSAGE = "Adapter trained with PEFT Studio"


def push_adapter(paths: RunPaths, repository: str, token: str | None, private: bool = False) -> str:
    """Makes a model repository of a run's adapter, with its card, settings and figures; no rows of the data.

    Args:
        paths: The run.
        repository: Id of a repository that does not exist yet, as ``owner/name``.
        token: Of whoever it is to belong to; it is sent to the Hub and kept nowhere.
        private: Whether only they may see it.

    Returns:
        The repository's address.

    Raises:
        ConfigError: The name cannot be that of a repository, or is taken.
        InvalidStateError: The run has not saved an adapter, or it is damaged.
        NotAllowedError: There is no token, or it is not enough.
        HubOfflineError: The Hub cannot be reached.
        StorageError: The disk is full.
    """
    name = check_repository(repository)
    exportable(paths)
    if not token:
        raise NotAllowedError(
            "Nobody is signed in to the Hub. Sign in with Hugging Face on the page; on the command line give a token "
            "that may write as HF_TOKEN."
        )
    require_hub()
    with tempfile.TemporaryDirectory(prefix="push-") as folder:
        try:
            files = _files(paths, name, Path(folder))
        except OSError as exc:
            raise StorageError(f"The adapter could not be packed: {exc.strerror or exc}.") from exc
        return _commit(name, files, token, private)


def _files(paths: RunPaths, repository: str, folder: Path) -> dict[str, Path]:
    """What goes into the repository, by its name there."""
    packed = folder / "adapter.zip"
    export_zip(paths, packed, repository=repository)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder / "files")
        names = archive.namelist()
    return {name: folder / "files" / name for name in names}


def _commit(name: str, files: dict[str, Path], token: str, private: bool) -> str:
    """Makes the repository and fills it in one commit; one that could not be filled is taken away again."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api, made = HfApi(token=token), False
    try:
        address = str(api.create_repo(name, private=private))
        made = True
        operations = [CommitOperationAdd(path, file) for path, file in files.items()]
        api.create_commit(name, operations, commit_message=MESSAGE)
    except Exception as exc:  # whatever the library meets: its words may hold addresses with keys in them
        if made:
            with contextlib.suppress(Exception):  # what went wrong first is told
                api.delete_repo(name, missing_ok=True)
        raise refusal(exc, name) from None
    return address
