"""Opens, decodes and writes videos: files, folders of frames and live streams."""

from motionaware.deprecation import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "Video": "data.video.base",
        "VideoError": "errors",
        "is_frame_folder": "data.video.frame_folder",
        "open_video": "data.video.open",
    },
)
