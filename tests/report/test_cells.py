import numpy as np


def test_confusion_is_a_share_of_the_true_class(m2a):
    matrix = m2a.confusion_matrix()
    np.testing.assert_allclose(matrix[0], [5 / 6, 1 / 6, 0, 0])
    np.testing.assert_allclose(matrix.sum(axis=1), [1, 1, 1, 0])


def test_top5_is_none_with_five_classes_or_fewer(m2a):
    assert m2a.top1_by_seed() == [5 / 6, 5 / 6, 2 / 6]
    assert m2a.top5_by_seed() is None
