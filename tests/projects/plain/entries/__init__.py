"""One model and one page."""
