"""Write a typed client from the catalogue of events."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from events.catalogue import CatalogueIncomplete
from project.generate import elm, python, typescript
from project.generate.source import Source, source

LANGUAGES: Mapping[str, Callable[[Source], dict[str, str]]] = {
    "elm": elm.write,
    "python": python.write,
    "typescript": typescript.write,
}
FOLDER = Path(settings.BASE_DIR) / "clients" / "generated"


class Command(BaseCommand):
    """Write a typed client from the catalogue of events; the same catalogue gives the same bytes."""

    help = __doc__ or ""
    requires_system_checks = ()  # what the catalogue lacks is said here, and shorter

    def add_arguments(self, parser: CommandParser) -> None:
        """Ask for the language, and where to."""
        parser.add_argument("--lang", required=True, help=f"one of {', '.join(LANGUAGES)}")
        parser.add_argument("--out", type=Path, help="the folder; by default clients/generated/<lang>")

    def handle(self, *args: Any, lang: str, out: Path | None, **options: Any) -> None:
        """Write the files and say which."""
        if lang not in LANGUAGES:
            raise CommandError(f"There is no client in {lang!r}: use one of {', '.join(LANGUAGES)}.")
        try:
            files = LANGUAGES[lang](source())
        except CatalogueIncomplete as error:
            raise CommandError(f"The catalogue is not complete. {error.detail}") from None
        folder = out or FOLDER / lang
        for name, text in sorted(files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
            self.stdout.write(str(path))
