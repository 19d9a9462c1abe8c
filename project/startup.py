"""What every entry point does: read the settings first, or say what is wrong with them; then settle."""

import gc
import os
import sys

# Objects that came and did not go, until Python looks for cycles among them: of 700, its default, a crowd
# that opens streams has so many looked at again and again that it is a sixth of what that costs.
YOUNG, YOUNG_LOOKS, MIDDLE_LOOKS = 5_000, 10, 10


def settings_or_exit() -> None:
    """Load the settings; end the process with one line where they are refused."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        settings.configured or settings.INSTALLED_APPS  # noqa: B018 (looking is loading)
    except ImproperlyConfigured as error:
        sys.exit(f"tickertape: {error}")


def settle() -> None:
    """Have the garbage collector walk no more what is there already, and stays: call it once all is loaded.

    That is some 150,000 objects. A full collection that walks them takes a tenth of a second, on a busy
    machine a whole one, in which the process answers nobody.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, YOUNG_LOOKS, MIDDLE_LOOKS)
