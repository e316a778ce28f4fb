"""Age networks that users bring, for the screen for minors. None is shipped."""
