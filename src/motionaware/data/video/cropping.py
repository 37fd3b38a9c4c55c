"""Reads the cropping margins that a Matroska or MP4 file declares for its video.

FFmpeg 7.1 and later read the same fields; the ffmpeg command, ffplay and mpv apply them. PyAV 18.1
does not expose them (they are side data of the stream), so this module parses the file.

Matroska  PixelCropTop, PixelCropBottom, PixelCropLeft, PixelCropRight of a video track: RFC 9559.
MP4, MOV  the clean aperture box, `clap`, of the first sample entry of a track: ISO/IEC 14496-12.

A file that declares no cropping, or is damaged, gives zero margins. The decoder reports the damage.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

# Element IDs of Matroska, with their marker bits.
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
_TYPE_VIDEO = 1  # value of TrackType

_MAX_METADATA_BYTES = 2**24  # a larger metadata element or box is not read
_SAMPLE_ENTRY_BYTES = 78  # fields of a VisualSampleEntry before its child boxes


class _MalformedFile(ValueError):
    """The file violates its format; the caller then assumes no cropping."""


@dataclass(frozen=True)
class Margins:
    """Pixels to crop at each side of a decoded frame."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))


def matroska_margins(path: Path, *, track_position: int) -> Margins:
    """Return the PixelCrop margins of a video track of a Matroska file.

    Args:
        path: The file.
        track_position: Position of the track among the video tracks; 0 is the first.
    """
    with suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        tracks = [
            entry for entry in _track_entries(file) if _uint(entry, _TRACK_TYPE) == _TYPE_VIDEO
        ]
        elements = _elements(tracks[track_position])
        video = next((content for key, content in elements if key == _VIDEO), b"")
        fields = {_CROP_FIELDS.get(key): int.from_bytes(value) for key, value in _elements(video)}
        return Margins(**{side: fields.get(side, 0) for side in _CROP_FIELDS.values()})
    return Margins()


def mp4_margins(path: Path, *, track_id: int, height: int, width: int) -> Margins:
    """Return the margins around the clean aperture of a track of an MP4 or MOV file.

    Args:
        path: The file.
        track_id: The ID in the track header.
        height: Height of a decoded frame, in pixels.
        width: Width of a decoded frame, in pixels.
    """
    with suppress(OSError, ValueError, struct.error, ZeroDivisionError), path.open("rb") as file:
        for kind, track in _boxes(_movie_box(file)):
            if kind == b"trak" and _track_id(track) == track_id:
                return _clean_aperture(track, height=height, width=width)
    return Margins()


# ------------------------------------------------------------------------------------- Matroska


def _track_entries(file: BinaryIO) -> list[bytes]:
    """Return the content of each TrackEntry; a SeekHead locates Tracks that follow the clusters.

    Raises:
        ValueError: The file is not Matroska, or has no tracks.
    """
    segment_start, tracks_offset = None, None
    while True:
        key, size = _element_head(file)
        if key == _SEGMENT:
            segment_start = file.tell()
        elif key == _TRACKS:
            return [
                entry for key, entry in _elements(_read_metadata(file, size)) if key == _TRACK_ENTRY
            ]
        elif key == _SEEK_HEAD:
            for seek in (
                seek for key, seek in _elements(_read_metadata(file, size)) if key == _SEEK
            ):
                if _uint(seek, _SEEK_ID) == _TRACKS:
                    tracks_offset = _uint(seek, _SEEK_POSITION)
        elif key == _CLUSTER:
            if segment_start is None or tracks_offset is None:
                raise _MalformedFile("no tracks before the first cluster")
            file.seek(segment_start + tracks_offset)
            tracks_offset = None  # if it leads to another cluster, do not follow it again
        else:
            file.seek(size, 1)


def _element_head(file: BinaryIO) -> tuple[int, int]:
    """Read the head of an EBML element: its ID, with marker bits, and the size of its content."""
    head = file.read(12)
    key, id_bytes = _vint(head, 0, keep_marker=True)
    size, size_bytes = _vint(head, id_bytes)
    file.seek(id_bytes + size_bytes - len(head), 1)
    return key, size


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the ID and the content of each EBML element in the content of its parent."""
    offset = 0
    while offset < len(content):
        key, id_bytes = _vint(content, offset, keep_marker=True)
        size, size_bytes = _vint(content, offset + id_bytes)
        offset += id_bytes + size_bytes
        yield key, content[offset : offset + size]
        offset += size


def _vint(content: bytes, offset: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """Return the EBML variable-size integer at an offset, and its number of bytes.

    Raises:
        ValueError: There is no such integer.
    """
    first = content[offset] if offset < len(content) else 0
    length = 9 - first.bit_length()
    if length > 8 or offset + length > len(content):
        raise _MalformedFile("no variable-size integer")
    value = int.from_bytes(content[offset : offset + length])
    return (value if keep_marker else value & ~(1 << 7 * length)), length


def _uint(content: bytes, wanted: int) -> int | None:
    """Return the unsigned integer in the child element with ID `wanted`; None if it is absent."""
    return next((int.from_bytes(value) for key, value in _elements(content) if key == wanted), None)


def _read_metadata(file: BinaryIO, size: int) -> bytes:
    if size > _MAX_METADATA_BYTES:
        raise _MalformedFile(f"{size} bytes of metadata")
    return file.read(size)


# ------------------------------------------------------------------------------------ MP4 and MOV


def _movie_box(file: BinaryIO) -> bytes:
    """Return the content of the movie box (`moov`); empty if the file has none."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        header_bytes = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header_bytes = 16
        if size < header_bytes:  # 0 means up to the end of the file
            break
        if kind == b"moov":
            return _read_metadata(file, size - header_bytes)
        file.seek(size - header_bytes, 1)
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box in the content of its parent."""
    offset = 0
    while offset + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, offset)
        if size < 8:
            return
        yield kind, content[offset + 8 : offset + size]
        offset += size


def _nested_box(content: bytes, *kinds: bytes) -> bytes:
    """Descend through the first child box of each kind; return its content, empty if one is absent.

    For example, `_nested_box(track, b"mdia", b"minf")` is the content of track/mdia/minf.
    """
    for wanted in kinds:
        content = next((child for kind, child in _boxes(content) if kind == wanted), b"")
    return content


def _track_id(track: bytes) -> int:
    header = _nested_box(track, b"tkhd")
    (number,) = struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)
    return number


def _clean_aperture(track: bytes, *, height: int, width: int) -> Margins:
    """Return the margins around the aperture; its centre is an offset from the frame's centre."""
    entries = _nested_box(track, b"mdia", b"minf", b"stbl", b"stsd")[8:]
    entry = next((content for _, content in _boxes(entries)), b"")
    box = _nested_box(entry[_SAMPLE_ENTRY_BYTES:], b"clap")
    if len(box) < 32:
        return Margins()
    values = struct.unpack(">8i", box[:32])
    clean_width, clean_height, offset_right, offset_down = (
        Fraction(*pair) for pair in zip(values[::2], values[1::2], strict=True)
    )
    left, right = _margins_along_axis(width, clean_width, offset_right)
    top, bottom = _margins_along_axis(height, clean_height, offset_down)
    return Margins(top=top, bottom=bottom, left=left, right=right)


def _margins_along_axis(size: int, clean: Fraction, offset: Fraction) -> tuple[int, int]:
    """Return the pixels before and after an aperture on one axis; 0, 0 if it exceeds the frame."""
    before = int((size - clean) / 2 + offset)
    after = size - before - int(clean)
    return (before, after) if clean >= 1 and before >= 0 and after >= 0 else (0, 0)
