"""Which patches a vision transformer can do without (DetailCLIP, section 3.1)."""
