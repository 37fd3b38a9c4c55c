from pathlib import Path

import pytest

from motionaware.data.transforms.flip_labels import flipped_classes, flipped_labels, names_side

LABELS = Path(__file__).parent / "labels"
V1 = (LABELS / "something-something-v1.txt").read_text().splitlines()
V2 = sorted(V1)  # the published order of V2 is the alphabetic one
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


def test_the_lists_are_whole():
    assert (len(set(V1)), len(set(JESTER))) == (174, 27)
    assert [V2[i] for i in (86, 93, 166)] == [pair[0] for pair in SOMETHING_PAIRS]


@pytest.mark.parametrize("name", LISTS)
def test_the_pairs_swap_and_every_other_class_stays_itself(name):
    labels, pairs = LISTS[name]
    expected = dict(enumerate(range(len(labels))))
    for pair in pairs:
        one, other = (labels.index(label) for label in pair)
        expected[one], expected[other] = other, one
    assert dict(enumerate(flipped_classes(labels, "swap"))) == expected
    assert flipped_classes(labels, True) == flipped_classes(labels, "swap")


@pytest.mark.parametrize("name", LISTS)
def test_skipping_leaves_out_what_names_a_side_and_nothing_else(name):
    labels, pairs = LISTS[name]
    found = flipped_classes(labels, "skip")
    left_out = {label for label, place in zip(labels, found, strict=True) if place is None}
    assert left_out == {label for pair in pairs for label in pair}
    assert all(place in (None, i) for i, place in enumerate(found))


@pytest.mark.parametrize("name", LISTS)
def test_the_mirror_of_the_mirror_is_the_class_itself(name):
    found = flipped_classes(LISTS[name][0], "swap")
    assert all(place is not None and found[place] == i for i, place in enumerate(found))


def test_the_index_tables_of_both_orders_come_out():
    def moved(labels: list[str]) -> dict[int, int | None]:
        found = flipped_classes(labels, "swap")
        return {i: place for i, place in enumerate(found) if place != i}

    assert moved(V1) == {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
    assert moved(V2) == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}


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
def test_near_misses_and_idioms_name_no_side(name):
    assert not names_side(name)
    assert flipped_labels(name) == (name,)


@pytest.mark.parametrize(
    ("name", "mirrored"),
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
def test_side_words_swap_as_they_are_written(name, mirrored):
    assert names_side(name)
    assert flipped_labels(name)[0] == mirrored


def test_a_turn_finds_its_partner_in_any_spelling():
    for other in ("counterclockwise", "counter-clockwise", "anticlockwise"):
        assert flipped_classes(["clockwise", other], "swap") == (1, 0)


def test_a_side_without_a_partner_is_never_mirrored():
    assert flipped_classes(["Waving left", "Waving"], "swap") == (None, 1)
    assert flipped_classes(["left and right"], "swap") == (None,)


def test_switched_off_nothing_is_mirrored():
    assert flipped_classes(JESTER, False) == (None,) * 27
