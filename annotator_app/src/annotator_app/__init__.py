"""Review of portraits in the browser. Not built yet: this package only holds its place."""
