#!/usr/bin/env bash
# PyAV 18.1.0: frame.side_data raises ValueError for pictures and videos with EXIF data.
#
# Expected: frame.side_data.get("DISPLAYMATRIX") is None where a frame has no such entry.
# Behaviour: FFmpeg 8 hands EXIF data to the frame as side data of type 31. PyAV's enum has no member with that
# number, so every use of side_data raises "31 is not a valid Type": get(), iteration and len(). Most JPEG files of
# cameras and phones have EXIF data, and so have MJPEG videos made of them. frame.rotation still works.
# Output: without EXIF data None; with it ValueError; rotation -90 for orientation 6.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 pillow==13.0.0 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'P'
import av
from PIL import Image

picture = Image.new("RGB", (64, 48), (10, 200, 30))
exif = Image.Exif()
exif[0x010F], exif[0x0112] = "a maker", 6
picture.save("plain.jpg")
picture.save("photo.jpg", exif=exif)


def first(path):
    with av.open(path) as container:
        return next(container.decode(video=0))


plain, photo = first("plain.jpg"), first("photo.jpg")
print("plain:", plain.side_data.get("DISPLAYMATRIX"))
assert plain.side_data.get("DISPLAYMATRIX") is None
for use in (lambda: photo.side_data.get("DISPLAYMATRIX"), lambda: list(photo.side_data)):
    try:
        use()
    except ValueError as error:
        print("with EXIF:", error)
        assert "31 is not a valid" in str(error)
    else:
        raise SystemExit("no error any more")
print("rotation:", photo.rotation)
assert photo.rotation == -90
P
