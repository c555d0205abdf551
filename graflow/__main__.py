"""``python -m graflow`` is ``graflow``."""

from graflow.cli.main import main

if __name__ == "__main__":
    main()
