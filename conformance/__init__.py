"""Tests of devices and of the suite itself.

pytest may find this package imported when it starts, and need not warn of it (PYTEST_DONT_REWRITE).
"""
