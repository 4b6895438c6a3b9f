"""The programs of joint angles of the action classes."""

import numpy as np

from skelpipe.synth.actions import evaluate, program


def test_all_120_programs_differ_by_more_than_amplitude():
    time = np.linspace(0, 1, 60)
    curves = np.stack([evaluate(program(action), time).ravel() for action in range(1, 121)])
    curves /= np.linalg.norm(curves, axis=1, keepdims=True)
    alike = curves @ curves.T - np.eye(120)
    assert alike.max() < 0.99


def test_an_action_lies_inside_its_time():
    for action in (1, 8, 61):
        angles = evaluate(program(action), np.array([-0.5, 0.0, 0.5, 1.0, 1.5]))
        assert not angles[[0, 1, 3, 4]].any()
        assert angles[2].any()
