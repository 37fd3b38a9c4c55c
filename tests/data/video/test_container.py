import av
import numpy as np
import pytest

from motionaware.data.video.container import can_decode
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError


def test_the_codecs_that_ffmpeg_decodes_are_known():
    assert can_decode("h264")
    assert not can_decode("no_such_codec")


def test_a_file_without_a_video_stream_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound.mp4 has no video stream; found audio"):
        open_video(path)
