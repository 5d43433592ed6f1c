# One image for every role. Only what pyproject.toml asks for at run time is in it: the lock is downloaded whole, checked
# against its hashes, and then the project's own dependencies are installed from those files and from nowhere else.
FROM python:3.13-slim AS build
WORKDIR /source
COPY requirements.lock ./
RUN pip download --quiet --require-hashes --only-binary :all: --dest /wheels -r requirements.lock
COPY pyproject.toml README.md ./
COPY domain domain
COPY projections projections
COPY services services
RUN python -m venv /opt/foldwork \
    && /opt/foldwork/bin/pip install --quiet --no-index --find-links /wheels .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home foldwork
COPY --from=build /opt/foldwork /opt/foldwork
ENV PATH=/opt/foldwork/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
ENTRYPOINT ["foldwork"]
CMD ["--help"]
