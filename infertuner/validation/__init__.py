"""Simulations against what really happened: hardware in the loop, a real engine, files of measured requests."""
