# One image for web, worker, beat and migrations; docker-compose.yml says which is which.

FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements.lock pyproject.toml ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
# The lock holds what tests and `make run` need too; an image that serves has no use for it.
RUN python -c "import re, tomllib; \
groups = tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups'].values(); \
print(*(re.match('[A-Za-z0-9._-]+', word)[0] for group in groups for word in group), sep='\n')" > unwanted \
    && /venv/bin/pip uninstall --yes --quiet -r unwanted

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin tickertape \
    && install -d -o tickertape -g tickertape /data
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TICKERTAPE_MODE=production \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py pyproject.toml ./
COPY events events
COPY streams streams
COPY workers workers
COPY project project
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-m", "project.healthcheck"]
CMD ["python", "-m", "project.serve"]
