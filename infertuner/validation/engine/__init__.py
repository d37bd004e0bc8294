"""A real engine in real time, and what a simulation of it says."""
