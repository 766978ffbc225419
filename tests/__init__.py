"""The tests mirror the tree one to one; `journeys` runs the real processes."""
