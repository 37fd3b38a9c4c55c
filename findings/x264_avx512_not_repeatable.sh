#!/usr/bin/env bash
# x264 with AVX-512 writes other bytes in each process for the same frames.
#
# Versions    PyAV 18.1.0 (its wheel brings FFmpeg 8.1.2 and libx264), numpy 2.4.0.
# Expected    The same frames, options and machine give the same file, with one thread at least.
# Behaviour   With the default options (macroblock-tree rate control and B-frames), the file depends on
#             what was in memory before. We make that visible with glibc's malloc.perturb, which fills
#             fresh memory with a byte. Widths that are a multiple of 128 pixels (8 macroblocks) repeat,
#             others do not. mbtree=0 repeats, and asm=0 (plain C) repeats at the size of the default.
# Why         x264's mbtree_propagate_list for AVX-512 handles 8 macroblocks at a time. In a row of
#             another length it reads past the end, where nothing was written.
# Output      One line for each case: how many different files three processes wrote. Exit code 0 while
#             the behaviour is as described, 1 if it changed, 77 if the CPU has no AVX-512 or the system
#             is not Linux on x86-64 (then there is nothing to see).
set -eu
if ! grep -q avx512bw /proc/cpuinfo 2>/dev/null; then
  echo "this CPU has no AVX-512: nothing to see"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q av==18.1.0 numpy==2.4.0
cat > "$work/encode.py" <<'EOF'
import hashlib
import io
import sys

import av
import numpy as np

width, parameters = int(sys.argv[1]), sys.argv[2]
blocks = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
picture = np.kron(blocks, np.ones((width // 6 + 2, width // 6 + 2, 1), np.uint8))
digest = hashlib.sha256()
for clip in range(6):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "17", "x264-params": parameters}
        for t in range(16):
            part = picture[clip + 2 * t : clip + 2 * t + 64, clip * t : clip * t + width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    digest.update(file.getvalue())
print(digest.hexdigest())
EOF
changed=0
expect() {  # name, width, x264 parameters, "repeats" or "differs"
  number=$(for byte in 0 85 170; do
    GLIBC_TUNABLES=glibc.malloc.perturb=$byte "$work/venv/bin/python" "$work/encode.py" "$2" "$3"
  done | sort -u | wc -l)
  found=repeats
  [ "$number" -eq 1 ] || found=differs
  echo "$1: $number different of 3, $found; expected: $4"
  [ "$found" = "$4" ] || changed=1
}
expect "width 112, default options" 112 threads=1 differs
expect "width 112, mbtree=0" 112 mbtree=0 repeats
expect "width 112, asm=0" 112 asm=0 repeats
expect "width 128, default options" 128 threads=1 repeats
exit $changed
