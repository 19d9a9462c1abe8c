"""Every setting, its default and its reason; the only reader of the environment.

`TICKERTAPE_MODE` is `production` (the default: secrets must be given), `demo`
(`make run`: demo users, readable errors) or `test`.
"""

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def text(name: str, default: str = "") -> str:
    """Read a string from the environment; an empty one counts as none."""
    return os.environ.get(name, "").strip() or default


def number(name: str, default: float, *, zero: bool = False) -> Any:
    """Read a positive number of the default's type, or 0 if `zero`; raise ImproperlyConfigured else."""
    given = text(name)
    if not given:
        return default
    try:
        value = type(default)(given)
    except ValueError:
        value = None
    if value is None or not (0 < value < float("inf") or (zero and value == 0)):
        kind = "whole number" if isinstance(default, int) else "number"
        raise ImproperlyConfigured(f"{name} must be a positive {kind}, not {given!r}.")
    return value


def words(name: str, default: str = "") -> list[str]:
    """Read a comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def network(name: str, given: str) -> IPv4Network | IPv6Network:
    """Read an address or a network of addresses; raise ImproperlyConfigured else."""
    try:
        return ip_network(given)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} has {given!r}: use addresses such as 10.0.0.7 or networks such as 10.0.0.0/8."
        ) from None


def origin(name: str, given: str) -> str:
    """Read an origin just as browsers write it; raise ImproperlyConfigured else."""
    match = re.fullmatch(
        r"(https?)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::([1-9]\d{0,4}))?", given
    )
    if not match or match.groups() in {("http", "80"), ("https", "443")}:
        raise ImproperlyConfigured(
            f"{name} has {given!r}: use exact origins such as https://app.example.org,"
            " in small letters and without a path, a * or the scheme's own port."
        )
    return given


def required(name: str, why: str) -> str:
    """Read a string that production has no default for."""
    given = text(name)
    if not given:
        raise ImproperlyConfigured(f"{name} is not set: {why}")
    return given


# --- Mode ---------------------------------------------------------------------------

MODE = text("TICKERTAPE_MODE", "production")
if MODE not in {"production", "demo", "test"}:
    raise ImproperlyConfigured(f"TICKERTAPE_MODE is {MODE!r}: use production, demo or test.")
PRODUCTION = MODE == "production"
DEBUG = False  # a traceback page would show payloads; problem+json says what a client may know

if PRODUCTION:
    SECRET_KEY = required("SECRET_KEY", "give 50 random characters; it signs sessions and tokens.")
    ALLOWED_HOSTS = words("ALLOWED_HOSTS")
    if not ALLOWED_HOSTS:
        raise ImproperlyConfigured("ALLOWED_HOSTS is not set: list the host names this serves.")
else:
    SECRET_KEY = text("SECRET_KEY", "not-secret-demo-and-test-only-" + "x" * 32)
    ALLOWED_HOSTS = words("ALLOWED_HOSTS", "*")

SECRET_KEY_FALLBACKS = words("SECRET_KEY_FALLBACKS")  # earlier ones, while what they signed still counts

CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = frozenset(origin("CORS_ALLOWED_ORIGINS", o) for o in words("CORS_ALLOWED_ORIGINS"))

# --- Parts --------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "ninja",  # its API page from our own static files, not from somebody's CDN
    "events",
    "streams",
    "workers",
    "project",
]

MIDDLEWARE = [
    "project.headers.headers",
    "project.origins.cors",
    "events.http.problems",
    "django.middleware.security.SecurityMiddleware",
    "project.assets.Assets",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- PostgreSQL: the log --------------------------------------------------------------

DATABASE_URL = text("DATABASE_URL") or (
    required("DATABASE_URL", "give postgresql://user:password@host:port/name.")
    if PRODUCTION
    else "postgresql://postgres@127.0.0.1:5432/tickertape"
)
DATABASE_POOL_SIZE = number("DATABASE_POOL_SIZE", 8)  # per web process, for requests
DATABASE_CONNECT_SECONDS = number("DATABASE_CONNECT_SECONDS", 3)  # then 503, not a hang
DATABASE_ANSWER_SECONDS = number("DATABASE_ANSWER_SECONDS", 5.0)  # of one statement of a request: likewise


# A server that vanished without a word is given up after some seconds, not a quarter of an hour.
DATABASE_LINK = {
    "connect_timeout": max(2, DATABASE_CONNECT_SECONDS),  # libpq takes 1 for 2
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds, of data that is not acknowledged
}


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for a PostgreSQL URL (a `host` in the query names a socket's folder)."""
    try:
        parts = urlsplit(url)
        port = str(parts.port or "")
    except ValueError:  # its text would quote the password
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read: write / # ? @ : in a user name or password as %2F %23 %3F %40 %3A."
        ) from None
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must start with postgresql://.")
    options: dict[str, Any] = {**DATABASE_LINK, "prepare_threshold": 0}  # Django's cursors prepare nothing
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if value:
            options[name] = unquote(value)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": port,
        "CONN_MAX_AGE": 0,  # a request's thread ends with it; the web server's pool keeps connections
        "CONN_HEALTH_CHECKS": True,  # so that a restart of PostgreSQL costs no request
        "OPTIONS": options,
    }


DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis or Valkey: hints, and the broker -----------------------------------------------

REDIS_URL = text("REDIS_URL") or (
    required("REDIS_URL", "give redis://:password@host:port/0.") if PRODUCTION else "redis://127.0.0.1:6379/0"
)
REDIS_PREFIX = text("REDIS_PREFIX", "tickertape")  # so that two logs can share one server

CELERY_BROKER_URL = text("CELERY_BROKER_URL", REDIS_URL)
CELERY_TASK_DEFAULT_QUEUE = REDIS_PREFIX  # so that two logs can share one broker
# Jobs have a queue of their own, so that a worker that takes none (`-X`) is never held up by one. A
# worker that is told nothing takes both.
CELERY_TASK_QUEUES: dict[str, dict[str, str]] = {REDIS_PREFIX: {}, f"{REDIS_PREFIX}.jobs": {}}
CELERY_TASK_ROUTES = {"jobs.*": {"queue": f"{REDIS_PREFIX}.jobs"}}
CELERY_TASK_IGNORE_RESULT = True  # what a task did is in the log
CELERY_TASK_ACKS_LATE = True  # at least once; effects are unique by key
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a wake must not wait behind a slow task of the same child
CELERY_WORKER_CONCURRENCY = number("CELERY_WORKER_CONCURRENCY", 2)
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a broker may be away for hours
# Kombu waits for the answer to a BRPOP, which takes a second, also when it closes, and for others: one
# after the other where Redis hangs, and a worker that ends waits for all of them.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 2, "socket_connect_timeout": 2, "socket_keepalive": True}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_DB_REUSE_MAX = 1_000  # tasks: connecting costs more than placing does
CELERY_BEAT_SCHEDULE = {
    # Often and briefly, so that no run is long; one that waited for a worker is not worth another.
    "keep": {"task": "workers.keep", "schedule": 600.0, "options": {"expires": 300}},
    "digest": {"task": "workers.digest", "schedule": 300.0, "options": {"expires": 300}},
}

# --- Events: the log ------------------------------------------------------------------------

EVENTS_MAX_PAYLOAD_BYTES = number("EVENTS_MAX_PAYLOAD_BYTES", 1_000_000)  # of one event's JSON
EVENTS_MAX_CHANNELS = number("EVENTS_MAX_CHANNELS", 100)  # of one event: a row each at placing
EVENTS_MAX_MENTIONS = number("EVENTS_MAX_MENTIONS", 10)  # of one comment: it must not call everybody
EVENTS_RETENTION_DAYS = number("EVENTS_RETENTION_DAYS", 0, zero=True)  # then pruned; 0 keeps all
EVENTS_POSTS_PER_MINUTE = number("EVENTS_POSTS_PER_MINUTE", 120, zero=True)  # changes by one user
EVENTS_KEY_POSTS_PER_MINUTE = number("EVENTS_KEY_POSTS_PER_MINUTE", 600, zero=True)  # batches of one key
EVENTS_JOBS_PER_USER = number("EVENTS_JOBS_PER_USER", 20, zero=True)  # that wait or run
EVENTS_LOGINS_PER_MINUTE = number("EVENTS_LOGINS_PER_MINUTE", 10, zero=True)  # that failed

# --- Streams: the live edge -------------------------------------------------------------------

STREAMS_HEARTBEAT_SECONDS = number("STREAMS_HEARTBEAT_SECONDS", 15.0)  # half a proxy's usual 30 s
STREAMS_RETRY_SECONDS = number("STREAMS_RETRY_SECONDS", 2.0)  # a client's wait before it comes back
STREAMS_MAX_AGE_SECONDS = number("STREAMS_MAX_AGE_SECONDS", 3600.0)  # so load evens out; jittered
STREAMS_STALL_SECONDS = number("STREAMS_STALL_SECONDS", 60.0)  # taking nothing for so long: closed
STREAMS_MAX_MESSAGE_BYTES = number(
    "STREAMS_MAX_MESSAGE_BYTES", 32 * 1024
)  # of what a WebSocket's client says
STREAMS_MESSAGES_PER_MINUTE = number("STREAMS_MESSAGES_PER_MINUTE", 120, zero=True)  # that it may say
STREAMS_MAX_CHANNELS = number("STREAMS_MAX_CHANNELS", 50)  # of one connection
STREAMS_MAX_CONNECTIONS = number("STREAMS_MAX_CONNECTIONS", 50_000)  # of one process, as all these:
STREAMS_MAX_PER_USER = number("STREAMS_MAX_PER_USER", 500, zero=True)  # on all their devices
STREAMS_MAX_PER_ADDRESS = number("STREAMS_MAX_PER_ADDRESS", 5_000, zero=True)  # an office has one for all
STREAMS_MAX_PER_CHANNEL = number("STREAMS_MAX_PER_CHANNEL", 0, zero=True)  # but of `system`
STREAMS_BUFFER_BYTES = number("STREAMS_BUFFER_BYTES", 128 * 1024)  # pushed, not yet written
STREAMS_WRITE_BYTES = number("STREAMS_WRITE_BYTES", 32 * 1024)  # held while one is slow, or one event
STREAMS_PAGE_EVENTS = number("STREAMS_PAGE_EVENTS", 500)  # of one read of the log
STREAMS_PAGE_BYTES = number("STREAMS_PAGE_BYTES", 256 * 1024)  # of one read; one event may exceed it
STREAMS_RING_EVENTS = number("STREAMS_RING_EVENTS", 20_000)  # recent events kept in memory
STREAMS_RING_BYTES = number("STREAMS_RING_BYTES", 16 * 1024 * 1024)  # so many of 500 bytes
STREAMS_REPLAY_BYTES = number("STREAMS_REPLAY_BYTES", 8 * 1024 * 1024)  # read for one, kept for the next
STREAMS_RENDERED_BYTES = number("STREAMS_RENDERED_BYTES", 4 * 1024 * 1024)  # as HTML, kept for the next
STREAMS_POOL_SIZE = number("STREAMS_POOL_SIZE", 4)  # database connections for hub and replay
STREAMS_LOOK_SECONDS = number("STREAMS_LOOK_SECONDS", 1.0)  # with the clock: 2 s behind without Redis
STREAMS_RECHECK_SECONDS = number("STREAMS_RECHECK_SECONDS", 60.0)  # permissions changed past the verbs
STREAMS_DIRECT = text("STREAMS_DIRECT", "1") == "1"  # opened past threads and ORM, where that suffices
STREAMS_TOKEN_ISSUERS = text("STREAMS_TOKEN_ISSUERS")  # who else signs tokens: JSON, or a file of it
STREAMS_PRESENCE = text("STREAMS_PRESENCE", "1") == "1"  # whether people see who else has an item open
STREAMS_TAKE_OVER = text("STREAMS_TAKE_OVER", "1") == "1"  # streams are written past the ASGI server: cheaper
STREAMS_DRAIN_SECONDS = number("STREAMS_DRAIN_SECONDS", 4.0)  # over which a stopping process ends streams

# --- Workers ---------------------------------------------------------------------------------

WORKERS_CLOCK_SECONDS = number("WORKERS_CLOCK_SECONDS", 0.5)  # placing without any task
WORKERS_PLACE_BATCH = number("WORKERS_PLACE_BATCH", 1_000)  # events in one placing transaction
WORKERS_PUBLISH_BATCH = number("WORKERS_PUBLISH_BATCH", 500)  # events in one message
WORKERS_PUBLISH_BYTES = number("WORKERS_PUBLISH_BYTES", 1024 * 1024)
WORKERS_WAKE_SECONDS = number("WORKERS_WAKE_SECONDS", 0.1)  # of hints to be sent: no request waits
WORKERS_LONG_TRANSACTION_SECONDS = number("WORKERS_LONG_TRANSACTION_SECONDS", 60.0)  # then a warning
WORKERS_REACTION_TRIES = number("WORKERS_REACTION_TRIES", 8)  # then parked
WORKERS_JOB_LEASE_SECONDS = number("WORKERS_JOB_LEASE_SECONDS", 10.0)  # unrenewed for so long: it died
WORKERS_JOB_RESEND_SECONDS = number("WORKERS_JOB_RESEND_SECONDS", 15.0)  # queued so long: message lost?
WORKERS_JOB_CANCEL_SECONDS = number("WORKERS_JOB_CANCEL_SECONDS", 5.0)  # to stop by itself; then killed
WORKERS_JOB_PROGRESS_SECONDS = number("WORKERS_JOB_PROGRESS_SECONDS", 0.25)  # between two of a job
WORKERS_JOB_FILE_BYTES = number("WORKERS_JOB_FILE_BYTES", 20 * 1024 * 1024)  # of what a job attaches

WORKERS_DIGEST_HOURS = number("WORKERS_DIGEST_HOURS", 24.0)  # longest that what is for a digest waits

# --- Mail ------------------------------------------------------------------------------------

EMAIL_URL = text("EMAIL_URL")  # without a server nothing is mailed, and nothing claims to have been
EMAIL_TIMEOUT = number("EMAIL_TIMEOUT", 10.0)  # a mail server that hangs must not hold a worker
DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL", "tickertape@localhost")
MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}


def mail_server(url: str) -> tuple[str, int, str, str, bool, bool]:
    """Return host, port, user, password, whether to use STARTTLS and whether TLS, of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text would quote the password
        raise ImproperlyConfigured(
            "EMAIL_URL cannot be read: write / # ? @ : in a user name or password as %2F %23 %3F %40 %3A."
        ) from None
    scheme = parts.scheme
    if scheme not in MAIL_PORTS or not parts.hostname:
        raise ImproperlyConfigured("EMAIL_URL must start with smtp://, smtp+tls:// or smtps:// and a host.")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    port = port or MAIL_PORTS[scheme]
    return parts.hostname, port, user, password, scheme == "smtp+tls", scheme == "smtps"


if EMAIL_URL:
    EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, EMAIL_USE_TLS, EMAIL_USE_SSL = mail_server(
        EMAIL_URL
    )

# --- Serving ------------------------------------------------------------------------------------

HOST = text("HOST", "127.0.0.1")
PORT = number("PORT", 8000)
# What links in mails begin with.
PUBLIC_URL = text(
    "PUBLIC_URL", f"https://{ALLOWED_HOSTS[0].lstrip('.')}" if PRODUCTION else f"http://{HOST}:{PORT}"
).rstrip("/")
WEB_SERVER = text("WEB_SERVER", "daphne")
if WEB_SERVER not in {"daphne", "uvicorn"}:
    raise ImproperlyConfigured(f"WEB_SERVER is {WEB_SERVER!r}: use daphne or uvicorn.")
SERVE_TRUSTED_PROXIES = [network("SERVE_TRUSTED_PROXIES", each) for each in words("SERVE_TRUSTED_PROXIES")]
SERVE_SEND_BUFFER_BYTES = number("SERVE_SEND_BUFFER_BYTES", 64 * 1024)  # in the kernel, a connection
SERVE_USER_TIMEOUT_SECONDS = number("SERVE_USER_TIMEOUT_SECONDS", 60)  # a peer gone without a FIN

# --- Web ---------------------------------------------------------------------------------------

HTTPS = text("HTTPS", "1" if PRODUCTION else "0") == "1"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = False  # the proxy in front does it; health checks come by plain HTTP
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = text("SESSION_COOKIE_SAMESITE", "Lax")
if SESSION_COOKIE_SAMESITE not in {"Strict", "Lax", "None"} or (
    SESSION_COOKIE_SAMESITE == "None" and not HTTPS
):
    raise ImproperlyConfigured("SESSION_COOKIE_SAMESITE must be Strict, Lax, or with HTTPS None.")
SESSION_COOKIE_AGE = 14 * 24 * 3600
DATA_UPLOAD_MAX_MEMORY_SIZE = number("DATA_UPLOAD_MAX_MEMORY_SIZE", 1024 * 1024)  # then 413
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # see SECURE_SSL_REDIRECT

AUTHENTICATION_BACKENDS = ["events.logins.Backend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_HASHERS = (
    ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if MODE == "test"
    else [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    ]
)

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # no collectstatic step to forget; the files are few
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False  # nobody else loads them

LOG_LEVEL = text("LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"facts": {"()": "project.logs.FactsFormatter"}},
    "filters": {"unnamed": {"()": "project.logs.Unnamed"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "facts"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},  # 4xx are answers, not faults
        "daphne": {"level": "WARNING"},
        "daphne.server": {"filters": ["unnamed"]},
        "celery": {"level": "INFO"},
        "uvicorn": {"level": "WARNING"},  # below, it names each WebSocket by its address, with any `?token=`
        # Two lines for every wake would hide the rest.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}
