"""Latent diffusion step by step, its missing objects, Attend-and-Excite, and whether everything is there."""
