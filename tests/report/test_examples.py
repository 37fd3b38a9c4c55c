from motionaware.report.examples import choose_examples
from motionaware.report.gains import compute_gains


def test_an_example_is_correct_with_every_seed_in_one_cell_and_with_none_in_the_other(none, m2a):
    (gain,) = compute_gains([none, m2a], baseline="none", pairs=[])
    examples = choose_examples(gain, num=3)
    found = [(example.correct.temporal, example.video_name) for example in examples]
    assert found == [("m2a", "video 3"), ("m2a", "video 4")]
    assert [example.video_name for example in choose_examples(gain, num=1)] == ["video 3"]
