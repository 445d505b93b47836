"""Arithmetic on configs: parameters, FLOPs, bytes. No torch, so it answers at once."""
