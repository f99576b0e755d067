"""``python -m tunehook`` is the command line, also where the folder of scripts is not on the path."""

from tunehook.cli import main

if __name__ == "__main__":
    main()
