"""Reads the cropping that a Matroska or MP4 file notes for its video.

FFmpeg 7.1 and later read the same fields, and the ffmpeg command, ffplay and mpv apply them. PyAV
18.1 does not hand them out (they are side data of the stream), so they are read here.

Matroska  PixelCropTop, PixelCropBottom, PixelCropLeft, PixelCropRight of a video track: RFC 9559.
MP4, MOV  the clean aperture box, `clap`, of the first sample entry of a track: ISO/IEC 14496-12.

A file that notes nothing, or is damaged, gives no margins: what is damaged is reported by the
decoder.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from motionaware.errors import UsageError

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = (
    0x18538067,
    0x114D9B74,
    0x4DBB,
    0x53AB,
    0x53AC,
)
_TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_CLUSTER = 0x1F43B675
_CROP_FIELDS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_TYPE_VIDEO = 1  # of TrackType

_LARGEST_BOX_BYTES = 2**24  # of the metadata boxes that are read whole
_SAMPLE_ENTRY_BYTES = 78  # of a VisualSampleEntry before its child boxes


@dataclass(frozen=True)
class Margins:
    """Pixels to remove at each side of a stored frame."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))


def matroska_margins(path: Path, *, place: int) -> Margins:
    """The margins noted for the video track at `place` among the video tracks of a Matroska file.

    Args:
        path: The file.
        place: 0 for the first video track.
    """
    with suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        tracks = [
            entry for entry in _track_entries(file) if _number(entry, _TRACK_TYPE) == _TYPE_VIDEO
        ]
        video = next((content for key, content in _elements(tracks[place]) if key == _VIDEO), b"")
        noted = {_CROP_FIELDS.get(key): int.from_bytes(value) for key, value in _elements(video)}
        return Margins(**{side: noted.get(side, 0) for side in _CROP_FIELDS.values()})
    return Margins()


def mp4_margins(path: Path, *, track_id: int, height: int, width: int) -> Margins:
    """The margins that the clean aperture of a track of an MP4 or MOV file leaves.

    Args:
        path: The file.
        track_id: As in the track's header.
        height: Of a stored frame, in pixels.
        width: Likewise.
    """
    with suppress(OSError, ValueError, struct.error, ZeroDivisionError), path.open("rb") as file:
        movie = next((box for kind, box in _file_boxes(file) if kind == b"moov"), b"")
        for kind, track in _boxes(movie):
            if kind == b"trak" and _track_id(track) == track_id:
                return _clean_aperture(track, height=height, width=width)
    return Margins()


# ------------------------------------------------------------------------------------- Matroska


def _track_entries(file: BinaryIO) -> list[bytes]:
    """The content of each TrackEntry; Tracks may stand behind the clusters if a SeekHead says so.

    Raises:
        ValueError: It is no Matroska file, or has no tracks.
    """
    begin, tracks_at = None, None
    while True:
        key, size = _element_head(file)
        if key == _SEGMENT:
            begin = file.tell()
        elif key == _TRACKS:
            return [entry for key, entry in _elements(_read(file, size)) if key == _TRACK_ENTRY]
        elif key == _SEEK_HEAD:
            for seek in (seek for key, seek in _elements(_read(file, size)) if key == _SEEK):
                if _number(seek, _SEEK_ID) == _TRACKS:
                    tracks_at = _number(seek, _SEEK_POSITION)
        elif key == _CLUSTER:
            if begin is None or tracks_at is None:
                raise UsageError("no tracks before the first cluster")
            file.seek(begin + tracks_at)
            tracks_at = None  # a position that leads to another cluster is not followed twice
        else:
            file.seek(size, 1)


def _element_head(file: BinaryIO) -> tuple[int, int]:
    """The ID of an element, its marker bits kept, and the size of its content."""
    head = file.read(12)
    key, id_bytes = _variable_int(head, 0, keep_marker=True)
    size, size_bytes = _variable_int(head, id_bytes)
    file.seek(id_bytes + size_bytes - len(head), 1)
    return key, size


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in the content of another one."""
    at = 0
    while at < len(content):
        key, id_bytes = _variable_int(content, at, keep_marker=True)
        size, size_bytes = _variable_int(content, at + id_bytes)
        at += id_bytes + size_bytes
        yield key, content[at : at + size]
        at += size


def _variable_int(content: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """An integer of variable length at a place, and how many bytes it takes.

    Raises:
        ValueError: There is none.
    """
    first = content[at] if at < len(content) else 0
    length = 9 - first.bit_length()
    if length > 8 or at + length > len(content):
        raise UsageError("no integer of variable length")
    value = int.from_bytes(content[at : at + length])
    return (value if keep_marker else value & ~(1 << 7 * length)), length


def _number(content: bytes, wanted: int) -> int | None:
    """The unsigned integer of an element among others."""
    return next((int.from_bytes(value) for key, value in _elements(content) if key == wanted), None)


def _read(file: BinaryIO, size: int) -> bytes:
    if size > _LARGEST_BOX_BYTES:
        raise UsageError("larger than metadata are")
    return file.read(size)


# ------------------------------------------------------------------------------------ MP4 and MOV


def _file_boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of a file; only the movie box is read, the others come empty."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        taken = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            taken = 16
        if size < taken:  # 0: to the end of the file
            return
        if kind == b"moov":
            yield kind, _read(file, size - taken)
        else:
            file.seek(size - taken, 1)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in the content of another one."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        if size < 8:
            return
        yield kind, content[at + 8 : at + size]
        at += size


def _inside(content: bytes, *kinds: bytes) -> bytes:
    """The content of the first box of each kind in the one before; empty where one is missing."""
    for wanted in kinds:
        content = next((inner for kind, inner in _boxes(content) if kind == wanted), b"")
    return content


def _track_id(track: bytes) -> int:
    header = _inside(track, b"tkhd")
    (number,) = struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)
    return number


def _clean_aperture(track: bytes, *, height: int, width: int) -> Margins:
    """The margins around the aperture, whose centre is given from the centre of the frame."""
    entries = _inside(track, b"mdia", b"minf", b"stbl", b"stsd")[8:]
    entry = next((content for _, content in _boxes(entries)), b"")
    box = _inside(entry[_SAMPLE_ENTRY_BYTES:], b"clap")
    if len(box) < 32:
        return Margins()
    values = struct.unpack(">8i", box[:32])
    clean_width, clean_height, right_by, down_by = (
        Fraction(*pair) for pair in zip(values[::2], values[1::2], strict=True)
    )
    left, right = _margins(width, clean_width, right_by)
    top, bottom = _margins(height, clean_height, down_by)
    return Margins(top=top, bottom=bottom, left=left, right=right)


def _margins(size: int, clean: Fraction, offset: Fraction) -> tuple[int, int]:
    """Pixels before and behind an aperture along one axis; none where it reaches outside."""
    before = int((size - clean) / 2 + offset)
    behind = size - before - int(clean)
    return (before, behind) if clean >= 1 and before >= 0 and behind >= 0 else (0, 0)
