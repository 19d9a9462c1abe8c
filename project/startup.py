"""What every entry point does before anything else: read the settings, or say what is wrong with them."""

import os
import sys


def settings_or_exit() -> None:
    """Load the settings; end the process with one line where they are refused."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        settings.configured or settings.INSTALLED_APPS  # noqa: B018 (looking is loading)
    except ImproperlyConfigured as error:
        sys.exit(f"tickertape: {error}")
