"""Runners: the part of a device that touches a vendor's runtime, and nothing else.

A runner is a module with ``load(spec) -> handle``, ``run(handle, images) -> outputs by name`` and ``close(handle)``;
``handle.facts`` holds plain data that the runtime states about the loaded model. ``time(handle, images, rounds)``
replaces the loop of `serve.timed` where a runtime has a better one. It imports the standard library, NumPy and the
vendor's module alone, in the syntax of Python 3.8, so that it also works where this project is not installed.
"""
