#!/usr/bin/env python
"""Django's command line for Tickertape."""

import sys

from project.startup import settings_or_exit


def main() -> None:
    """Run one management command."""
    settings_or_exit()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
