"""Ascend's toolchain: conversion of an ONNX to an om, and the output of its tools on chips and errors."""
