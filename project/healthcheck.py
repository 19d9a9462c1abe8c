"""`python -m project.healthcheck`: whether the web process beside us lives, for containers."""

import http.client
import sys

from project.startup import settings_or_exit


def main() -> int:
    """Ask for /healthz by a host name that is served; return 0 when it answers 200."""
    settings_or_exit()
    from django.conf import settings

    host = settings.ALLOWED_HOSTS[0].lstrip(".").replace("*", "localhost")
    asked = http.client.HTTPConnection("127.0.0.1", settings.PORT, timeout=4)
    try:
        asked.request("GET", "/healthz", headers={"Host": host})
        status = asked.getresponse().status
    except OSError as error:
        sys.stderr.write(f"/healthz: {error}\n")
        return 1
    sys.stderr.write(f"/healthz: {status}\n")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
