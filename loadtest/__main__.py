"""`python -m loadtest`: the command without the rest of Loraplex."""

from loadtest.command.entry import main

if __name__ == "__main__":
    main()
