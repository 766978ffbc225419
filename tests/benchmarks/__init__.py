"""The benchmarks count right and add up; nothing here asserts a speed."""
