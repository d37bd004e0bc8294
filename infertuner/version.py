"""The version, where both the package and the records of its results can read it."""

__version__ = "0.1.0"
