import numpy as np

from skelpipe.raw.collections.padded import padded_recording
from skelpipe.raw.form import Form
from skelpipe.skeleton import layout


def test_zeros_at_the_end_are_no_frames() -> None:
    array = np.zeros((6, 2, 17, 3))
    array[1, 0], array[3, 1] = 1, 2
    form = Form(layout("coco-17"), 2)
    assert padded_recording(array, form, "a").counts.tolist() == [0, 1, 0, 2]
    whole = padded_recording(array, Form(layout("coco-17"), 2, padded=False), "a")
    assert whole.counts.tolist() == [0, 1, 0, 2, 0, 0]
    assert padded_recording(array * 0, form, "a").frames == 0
