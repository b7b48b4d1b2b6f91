"""The drawn world whose boxes, masks and captions are known."""
