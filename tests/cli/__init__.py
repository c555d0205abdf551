"""The commands, used as people use them: by their arguments, what they print, and their exit codes."""
