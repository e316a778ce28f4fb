"""The commands of the `portraitgan` program, a module each."""
