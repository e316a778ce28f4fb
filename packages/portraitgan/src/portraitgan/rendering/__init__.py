"""Volume rendering: rays, tri-grid sampling, marching."""
