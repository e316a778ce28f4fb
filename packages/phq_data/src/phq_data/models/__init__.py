"""Networks and fitters behind four small protocols."""
