"""The command `mediagate`. Imports are within the commands, so that `--help` is quick."""
