"""How good the bundled models are, measured on scenes they have never seen: one command per card."""
