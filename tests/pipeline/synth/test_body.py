"""Forward kinematics against a naive recursion."""

import numpy as np

from skelpipe.synth.body import forward, sample_offsets

# The parent of each Kinect v2 joint with the pelvis as root, from the sensor's documentation; joint 0 has none.
PARENTS = [0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11]


def test_forward_kinematics_equals_a_naive_recursion():
    rng = np.random.default_rng(3)
    offsets = sample_offsets(rng)
    angles = rng.uniform(-2, 2, (2, 25, 3))
    got = forward(offsets, angles)

    def matrix(a, b, c):
        x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        return z @ x @ y

    def pose_of(t, v):
        if v == 0:
            return np.zeros(3), matrix(*angles[t, 0])
        position, turn = pose_of(t, PARENTS[v])
        return position + turn @ offsets[v], turn @ matrix(*angles[t, v])

    for t in range(2):
        for v in range(25):
            position, turn = pose_of(t, v)
            np.testing.assert_allclose(got.positions[t, v], position, atol=1e-12)
            np.testing.assert_allclose(got.rotations[t, v], turn, atol=1e-12)
