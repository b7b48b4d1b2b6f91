"""Removed patches, rebuilt from the others (DetailCLIP, section 3.3)."""
