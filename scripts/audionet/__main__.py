"""``python -m audionet``, the same as the command ``audionet``."""

from audionet.cli.main import main

if __name__ == "__main__":
    main()
