from pathlib import Path

import pytest

from motionaware.data.transforms.flip_labels import flipped_classes, flipped_labels, names_side

LABELS = Path(__file__).parent / "labels"
V1 = (LABELS / "something-something-v1.txt").read_text().splitlines()
V2 = sorted(V1)  # V2 is published in alphabetical order
JESTER = (LABELS / "jester.txt").read_text().splitlines()

SOMETHING_PAIRS = [
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    (
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
    ),
]
JESTER_PAIRS = [
    ("Swiping Left", "Swiping Right"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
]
LISTS = {
    "V1": (V1, SOMETHING_PAIRS),
    "V2": (V2, SOMETHING_PAIRS),
    "Jester": (JESTER, JESTER_PAIRS),
}


def test_the_label_lists_are_complete():
    assert (len(set(V1)), len(set(JESTER))) == (174, 27)
    assert [V2[i] for i in (86, 93, 166)] == [pair[0] for pair in SOMETHING_PAIRS]


@pytest.mark.parametrize("name", LISTS)
def test_opposite_classes_are_exchanged_and_others_stay_the_same(name):
    labels, pairs = LISTS[name]
    expected = dict(enumerate(range(len(labels))))
    for pair in pairs:
        left, right = (labels.index(label) for label in pair)
        expected[left], expected[right] = right, left
    assert dict(enumerate(flipped_classes(labels, "swap"))) == expected
    assert flipped_classes(labels, True) == flipped_classes(labels, "swap")


@pytest.mark.parametrize("name", LISTS)
def test_skip_excludes_only_classes_that_name_a_side(name):
    labels, pairs = LISTS[name]
    found = flipped_classes(labels, "skip")
    skipped = {label for label, index in zip(labels, found, strict=True) if index is None}
    assert skipped == {label for pair in pairs for label in pair}
    assert all(index in (None, i) for i, index in enumerate(found))


@pytest.mark.parametrize("name", LISTS)
def test_a_class_flipped_twice_is_itself(name):
    found = flipped_classes(LISTS[name][0], "swap")
    assert all(index is not None and found[index] == i for i, index in enumerate(found))


def test_the_published_index_tables_of_both_orders_are_reproduced():
    def exchanged(labels: list[str]) -> dict[int, int | None]:
        found = flipped_classes(labels, "swap")
        return {i: index for i, index in enumerate(found) if index != i}

    assert exchanged(V1) == {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
    assert exchanged(V2) == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}


@pytest.mark.parametrize(
    "name",
    [
        "Putting something upright on the table",
        "Plugging something into something but pulling it right out as you remove your hand",
        "Laying something on the table on its side, not upright",
        "Turning something upside down",
        "Copyright dispute",
        "Cleft lip",
        "Brightening a lamp",
        "Eating leftovers",
        "Eating what is left over",
        "Turning a cup right side up",
        "Doing it right away",
        "Drawing a right angle",
    ],
)
def test_similar_words_and_idioms_name_no_side(name):
    assert not names_side(name)
    assert flipped_labels(name) == (name,)


@pytest.mark.parametrize(
    ("name", "flipped"),
    [
        ("moving left", "moving right"),
        ("LEFT turn", "RIGHT turn"),
        ("swipe_left", "swipe_right"),
        ("SwipeLeft", "SwipeRight"),
        ("SwipeLeftHand", "SwipeRightHand"),
        ("right-handed throw", "left-handed throw"),
        ("Leaning leftwards", "Leaning rightwards"),
        ("left, then left out of the right door", "right, then right out of the left door"),
        ("Turning counter-clockwise", "Turning clockwise"),
        ("pulling it right out to the left", "pulling it right out to the right"),
    ],
)
def test_sides_are_exchanged_and_keep_their_spelling(name, flipped):
    assert names_side(name)
    assert flipped_labels(name)[0] == flipped


def test_the_opposite_rotation_is_found_in_any_spelling():
    for opposite in ("counterclockwise", "counter-clockwise", "anticlockwise"):
        assert flipped_classes(["clockwise", opposite], "swap") == (1, 0)


def test_a_class_without_an_opposite_class_is_not_flipped():
    assert flipped_classes(["Waving left", "Waving"], "swap") == (None, 1)
    assert flipped_classes(["left and right"], "swap") == (None,)


def test_without_flip_no_class_is_flipped():
    assert flipped_classes(JESTER, False) == (None,) * 27
