import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from motionaware.files import atomic_file, check_folder, lock_folder, write_atomically


def full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that stands where another is to be written."""
    (tmp_path / "run.pt").write_bytes(b"old")
    return tmp_path / "run.pt"


def assert_only_the_old_file_stands(old: Path) -> None:
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]
    assert old.read_bytes() == b"old"


def test_what_is_written_takes_the_place_of_what_stood_there(old):
    write_atomically(old, b"new")
    assert old.read_bytes() == b"new"
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]


def test_a_missing_folder_is_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "run.pt", b"new")
    assert (tmp_path / "a" / "b" / "run.pt").read_bytes() == b"new"


def test_the_old_file_stands_until_the_new_one_is_whole(old):
    with atomic_file(old) as part:
        part.write_bytes(b"half")
        assert old.read_bytes() == b"old"
        part.write_bytes(b"all of it")
    assert old.read_bytes() == b"all of it"


def test_two_writers_at_once_do_not_meet(old):
    with atomic_file(old) as one, atomic_file(old) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert old.read_bytes() == b"one"  # the last to finish
    assert [file.name for file in old.parent.iterdir()] == ["run.pt"]


def test_others_may_read_the_file_as_they_may_read_any(old):
    (old.parent / "any").touch()
    wanted = (old.parent / "any").stat().st_mode
    write_atomically(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == stat.S_IMODE(wanted)


WORDS = r"run\.pt: cannot write 0\.0 MB \(No space left on device\); what stood there before is untouched; make room or choose another folder"  # noqa: E501


def test_a_disk_that_is_full_at_the_last_moment_leaves_what_stood_there(old, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=WORDS) as raised:
        write_atomically(old, b"new")
    assert raised.value.errno == errno.ENOSPC
    assert_only_the_old_file_stands(old)


def test_a_disk_that_is_full_while_writing_leaves_what_stood_there(old, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=WORDS):
        write_atomically(old, b"new")
    monkeypatch.undo()
    assert_only_the_old_file_stands(old)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_breaks_it_off_leaves_what_stood_there(old, interruption):
    with pytest.raises(interruption), atomic_file(old) as part:
        part.write_bytes(b"half")
        raise interruption
    assert_only_the_old_file_stands(old)


def test_the_error_says_what_was_written_and_what_to_do(old):
    with (
        pytest.raises(
            OSError, match=r"cannot write the clips \(No space.*; make room or ask for fewer$"
        ),
        atomic_file(old, what="the clips", remedy="ask for fewer"),
    ):
        full()


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "run.pt").mkdir()
    with pytest.raises(OSError, match=r"run\.pt: cannot write 0\.0 MB \(Is a directory\)"):
        write_atomically(tmp_path / "run.pt", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_a_file_in_place_of_the_folder_is_named(old):
    for path, folder in ((old / "next", old), (old / "a" / "next", old / "a")):
        below = "" if folder == old else f", for {folder}"
        words = f"{path}: cannot write 0.0 MB ({old} is a file, wanted a folder{below}); what stood"
        with pytest.raises(OSError, match=re.escape(words)) as raised:
            write_atomically(path, b"new")
        assert str(raised.value).endswith("is untouched; choose another folder")
    with (
        pytest.raises(NotADirectoryError, match="is a file, wanted a folder"),
        lock_folder(old, busy_message="busy"),
    ):
        pass
    check_folder(old.parent / "new" / "newer")
    assert_only_the_old_file_stands(old)


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.video.writer import write_video
from motionaware.files import write_atomically

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit is an error
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
def test_every_writer_meets_a_real_limit_with_one_error_and_the_old_file_stands(old):
    words = subprocess.run(
        [sys.executable, "-c", LIMITED, str(old)], capture_output=True, text=True, check=True
    )
    file, video, clips = words.stdout.splitlines()
    assert "run.pt: cannot write 0.0 MB (File too large)" in file
    assert "run.pt: cannot write the video (File too large)" in video
    assert "cannot write 0.0 MB of clips (File too large)" in clips
    assert words.stderr == ""
    assert_only_the_old_file_stands(old)


def test_a_folder_is_let_go_whatever_happens_in_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), lock_folder(tmp_path / "new", busy_message="busy"):
        with pytest.raises(BlockingIOError, match="busy"):
            lock_folder(tmp_path / "new", busy_message="busy").__enter__()
        raise KeyboardInterrupt
    with lock_folder(tmp_path / "new", busy_message="busy"):
        pass
