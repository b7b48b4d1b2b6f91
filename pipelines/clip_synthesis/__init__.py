"""An image made out of CLIP's opinion."""
