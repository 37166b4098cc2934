"""Tests of single modules, which need no service."""
