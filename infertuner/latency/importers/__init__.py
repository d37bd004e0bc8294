"""Profiles from published measurements: one file a format, each turning a path into seconds of whole iterations."""
