"""Tests of what the suite catches: every known mistake, made by ports, must be found and named."""
