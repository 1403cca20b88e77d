"""Drivers of the vendors' toolchains: one package or file a toolchain."""
