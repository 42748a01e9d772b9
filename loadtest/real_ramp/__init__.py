"""The ramp against three systems with a real model, on this machine."""
