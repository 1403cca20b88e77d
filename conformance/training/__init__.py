"""Tests that judge a device that trains; they exist under ``-m training`` alone."""
