"""Opens, decodes and writes videos: files, folders of frames and live streams."""
