"""Words to boxes (Grounding DINO)."""
