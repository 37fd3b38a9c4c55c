from motionaware.report.csv_export import class_rows


def test_a_class_without_videos_has_an_empty_accuracy(none, m2a):
    header, rows = class_rows([none, m2a])
    assert header == ["class", "num_videos", "b none", "b m2a"]
    assert rows[3] == ["never", 0, None, None]
