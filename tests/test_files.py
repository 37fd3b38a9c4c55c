import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from motionaware.files import atomic_file, check_folder, lock_folder, write_atomically


def raise_disk_full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a file that exists before another is written in its place."""
    (tmp_path / "run.pt").write_bytes(b"old")
    return tmp_path / "run.pt"


def assert_only_the_old_file_exists(old: Path) -> None:
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]
    assert old.read_bytes() == b"old"


def test_a_written_file_replaces_the_old_one(old):
    write_atomically(old, b"new")
    assert old.read_bytes() == b"new"
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]


def test_a_missing_folder_is_created(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "run.pt", b"new")
    assert (tmp_path / "a" / "b" / "run.pt").read_bytes() == b"new"


def test_the_old_content_is_readable_until_the_new_one_is_complete(old):
    with atomic_file(old) as part:
        part.write_bytes(b"half")
        assert old.read_bytes() == b"old"
        part.write_bytes(b"all of it")
    assert old.read_bytes() == b"all of it"


def test_two_simultaneous_writers_use_different_temporary_files(old):
    with atomic_file(old) as first, atomic_file(old) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert old.read_bytes() == b"first"  # it finished last
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]


def test_a_written_file_has_the_usual_permissions(old):
    (old.parent / "usual").touch()
    expected = (old.parent / "usual").stat().st_mode
    write_atomically(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == stat.S_IMODE(expected)


DISK_FULL = (
    r"run\.pt: cannot write 0\.0 MB \(No space left on device\); the previous content is "
    "unchanged; make room or choose another folder"
)


def test_a_full_disk_that_fsync_detects_leaves_the_old_file(old, monkeypatch):
    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(OSError, match=DISK_FULL) as raised:
        write_atomically(old, b"new")
    assert raised.value.errno == errno.ENOSPC
    assert_only_the_old_file_exists(old)


def test_a_disk_that_becomes_full_while_writing_leaves_the_old_file(old, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", raise_disk_full)
    with pytest.raises(OSError, match=DISK_FULL):
        write_atomically(old, b"new")
    monkeypatch.undo()
    assert_only_the_old_file_exists(old)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_leaves_the_old_file(old, interruption):
    with pytest.raises(interruption), atomic_file(old) as part:
        part.write_bytes(b"half")
        raise interruption
    assert_only_the_old_file_exists(old)


def test_the_error_names_what_was_written_and_the_remedy(old):
    message = r"cannot write the clips \(No space.*; make room or ask for fewer$"
    with (
        pytest.raises(OSError, match=message),
        atomic_file(old, what="the clips", remedy="ask for fewer"),
    ):
        raise_disk_full()


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "run.pt").mkdir()
    with pytest.raises(OSError, match=r"run\.pt: cannot write 0\.0 MB \(Is a directory\)"):
        write_atomically(tmp_path / "run.pt", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_a_file_in_place_of_the_folder_is_named(old):
    for path, folder in ((old / "next", old), (old / "a" / "next", old / "a")):
        purpose = "" if folder == old else f", for {folder}"
        message = f"{path}: cannot write 0.0 MB ({old} is a file, wanted a folder{purpose}); the"
        with pytest.raises(OSError, match=re.escape(message)) as raised:
            write_atomically(path, b"new")
        assert str(raised.value).endswith("is unchanged; choose another folder")
    with (
        pytest.raises(NotADirectoryError, match="is a file, wanted a folder"),
        lock_folder(old, busy_message="busy"),
    ):
        pass
    check_folder(old.parent / "new" / "newer")
    assert_only_the_old_file_exists(old)


WITH_LIMITED_FILE_SIZE = """
import resource, signal, sys
from pathlib import Path
import torch
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.video.writer import write_video
from motionaware.files import write_atomically

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then raises an error
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
path = Path(sys.argv[1])
noise = torch.randint(256, (8, 3, 64, 64), dtype=torch.uint8)
clips = dict(split="val", num_clips=12, num_frames=2, image_size=16, cache_dir=path.parent)
for write in (
    lambda: write_atomically(path, bytes(3000)),
    lambda: write_video(path, noise, fps=8),
    lambda: MotionPairs(**clips),
):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of files")
def test_every_writer_raises_one_error_at_a_real_limit_and_leaves_the_old_file(old):
    done = subprocess.run(
        [sys.executable, "-c", WITH_LIMITED_FILE_SIZE, str(old)],
        capture_output=True,
        text=True,
        check=True,
    )
    file, video, clips = done.stdout.splitlines()
    assert "run.pt: cannot write 0.0 MB (File too large)" in file
    assert "run.pt: cannot write the video (File too large)" in video
    assert "cannot write 0.0 MB of clips (File too large)" in clips
    assert done.stderr == ""
    assert_only_the_old_file_exists(old)


def test_a_lock_excludes_others_and_is_released_after_an_exception(tmp_path):
    with pytest.raises(KeyboardInterrupt), lock_folder(tmp_path / "new", busy_message="busy"):
        with pytest.raises(BlockingIOError, match="busy"):
            lock_folder(tmp_path / "new", busy_message="busy").__enter__()
        raise KeyboardInterrupt
    with lock_folder(tmp_path / "new", busy_message="busy"):
        pass
