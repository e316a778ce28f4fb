"""How wrong the labels are: against known truth, and against themselves."""
