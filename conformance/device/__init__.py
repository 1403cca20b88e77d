"""The tests that judge a device, one file a stage."""
