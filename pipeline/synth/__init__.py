"""Raw recordings made from a kinematic model, in the formats of the real datasets."""
