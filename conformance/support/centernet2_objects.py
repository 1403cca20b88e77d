"""Objects of the golden numbers in `fixtures/golden/centernet2_samples/`: changed, they no longer belong."""

OBJECTS = (
    ((10.0, 5.0, 30.5, 20.25), 3, 0),
    ((0.0, 0.0, 97.0, 61.0), 7, 0),
    ((90.0, 50.0, 20.0, 20.0), 1, 0),  # leaves an image of 97 x 61 pixels
    ((40.0, 30.0, 0.0, 12.0), 2, 0),  # no width
    ((120.0, 10.0, 10.0, 10.0), 4, 0),  # outside
    ((20.0, 20.0, 30.0, 30.0), 5, 1),  # a crowd
    ((50.0, 40.0, 0.4, 0.3), 6, 0),  # thinner than a pixel
)
"""Box (x, y, width, height in pixels), class, and whether it is a crowd, on an image of 97 x 61 pixels or upright."""
