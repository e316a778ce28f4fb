"""Volume rendering: rays, tri-grid sampling, ray marching."""
