"""The command line: one file a command, each with `HELP` (one line) and `main(argv) -> exit code`."""
