"""Videos: files, folders of frames and live streams -> frames."""
