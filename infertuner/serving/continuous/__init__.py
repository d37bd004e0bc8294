"""Iteration-level batching: an engine that schedules as vLLM does, and jumps over iterations where nothing changes."""
