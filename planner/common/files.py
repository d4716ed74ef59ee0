"""Files are written whole or not at all; what is read is a regular file of a size that can be what it should be."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.message import Message

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MARK = "planner-"
"""Begins the last part of a temporary file's name, before the number of the process that writes it."""
MOST_BYTES = 256 * 2**20
"""The largest file that is read: tables of a million runs are smaller."""


State = tuple[int, int] | None
"""Of a file of one's own: when it was written, in ns, and its bytes."""


def state_of(name: str) -> State:
    """The state of a file that a name is the path of, for what is kept of it: a changed file is read again.

    None for a name of the catalog, whose files do not change, and where there is no such file.
    """
    if not name.lower().endswith((".toml", ".json", ".gguf")):
        return None
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def require_folder(path: Path, option: str = "") -> None:
    """PlannerError where the folder that ``path`` goes into does not exist: a mistyped path makes none."""
    if not path.parent.is_dir():
        raise PlannerError(
            "{0}{1}: the folder {2} does not exist; make it first.",
            Message("{0} ", option) if option else "",
            path,
            path.parent,
            code="output",
        )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: readers see the old file or all of the new.

    The bytes are on the disk before the name changes, so that neither a killed process nor a lost machine leaves half a file.
    Raises PlannerError when the folder or the disk does not take it; then the old file is as before and nothing is left behind.
    """
    write_together({path: write})


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """``write_whole`` for files that belong together: all are written beside their places before the first is put in place.

    A failure before that changes nothing; one while they are put in place (milliseconds) restores those already replaced.
    """
    staged: list[tuple[Path, Path]] = []
    at = Path()
    try:
        for at, write in files.items():
            require_folder(at)
            staged.append((at, _temporary(at)))
            write(staged[-1][1])
            _flushed(staged[-1][1])
        _put_in_place(staged)
    except OSError as error:
        raise PlannerError(
            "{0}: cannot be written ({1}); nothing was written.", at, error.strerror or error, code="output"
        ) from None
    finally:
        for _, temporary in staged:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """``write_whole`` of UTF-8 text."""
    write_whole(path, lambda temporary: _write_text(temporary, text))


def write_texts(texts: Mapping[Path, str]) -> None:
    """``write_together`` of UTF-8 texts."""
    write_together({path: partial(_write_text, text=text) for path, text in texts.items()})


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the folder of ``path`` while it is read, changed and written: no other process loses what this one adds.

    Advisory, of the operating system: a killed process frees it. Windows has none; there the last writer wins.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise PlannerError(
            "{0}: cannot be written ({1}); give a path in a writable folder.", path, error.strerror, code="output"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def require_regular(path: Path, what: str = "the path of a file", most_bytes: int = MOST_BYTES) -> None:
    """PlannerError unless ``path`` is a regular file of at most ``most_bytes``: a pipe would be waited for without end."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise PlannerError("{0}: cannot be read ({1}); give {2}.", path, reason, what, code="file") from None
    if stat.S_ISDIR(found.st_mode):
        raise PlannerError("{0}: is a folder; give {1}.", path, what, code="file")
    if not stat.S_ISREG(found.st_mode):
        raise PlannerError("{0}: is no regular file; give {1}.", path, what, code="file")
    if found.st_size > most_bytes:
        raise PlannerError(
            "{0}: holds {1:.0f} MiB; at most {2:.0f} MiB are read.", path, found.st_size / 2**20, most_bytes / 2**20, code="file"
        )


def read_text(path: Path, what: str = "the path of a file", most_bytes: int = MOST_BYTES) -> str:
    """The UTF-8 text of a file that a user named, without a byte-order mark; PlannerError says what is wrong with it."""
    require_regular(path, what, most_bytes)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlannerError("{0}: cannot be read ({1}); give {2}.", path, reason, what, code="file") from None


def _temporary(path: Path) -> Path:
    """A new, empty file beside ``path``; what killed processes left of the same file is removed."""
    for old in path.parent.glob(f".{path.name}.{MARK}*"):
        writer = re.fullmatch(
            rf"{MARK}(\d+)-[0-9a-f]+", old.stem.rpartition(".")[2] if path.suffix else old.name.rpartition(".")[2]
        )
        if writer is not None and not _alive(int(writer[1])):
            old.unlink(missing_ok=True)
    fresh = path.with_name(f".{path.name}.{MARK}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return fresh


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _write_text(path: Path, text: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(text)


def _flushed(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(staged: list[tuple[Path, Path]]) -> None:
    """Rename all; on failure those already renamed get their old content back."""
    before: list[tuple[Path, bytes | None]] = []
    try:
        for path, temporary in staged:
            if path.is_dir():
                raise OSError(21, "is a folder")
            before.append((path, path.read_bytes() if len(staged) > 1 and path.exists() else None))
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            os.replace(temporary, path)
    except OSError:
        for path, old in before[:-1]:
            if old is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(old)
        raise
