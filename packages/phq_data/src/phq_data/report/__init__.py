"""The report of a workspace: one HTML page that needs nothing else, and its contact sheets as images."""
