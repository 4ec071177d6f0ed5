"""`python -m umecache`: the command line, as processes start it."""

from umecache.cli.app import main

if __name__ == "__main__":
    main()
