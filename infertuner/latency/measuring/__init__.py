"""Measuring: what to visit, in which order, and what the visits say."""
