# One image for every role. Only what pyproject.toml asks for at run time is in it: the lock is downloaded whole, checked
# against its hashes, and then the project's own dependencies are installed from those files and from nowhere else.
# They are a layer of their own, which a change of the source leaves as it is.
# The base is named by the digest of its index, for all platforms: the same tag may be another image tomorrow.
ARG PYTHON_IMAGE=python:3.13.14-slim@sha256:9662417aace5ae7b8e2609cce472b72a8958e134ba372808abe9cc1a0c0125e6
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /source
COPY requirements.lock ./
RUN pip download --quiet --require-hashes --only-binary :all: --dest /wheels -r requirements.lock
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > runtime.txt \
    && python -m venv /opt/foldwork \
    && /opt/foldwork/bin/pip install --quiet --no-index --find-links /wheels -r runtime.txt

FROM dependencies AS build
COPY README.md LICENSE ./
COPY domain domain
COPY projections projections
COPY services services
RUN /opt/foldwork/bin/pip install --quiet --no-index --find-links /wheels --no-deps --target /app .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home foldwork
COPY --from=dependencies /opt/foldwork /opt/foldwork
COPY --from=build /app /app
ENV PATH=/app/bin:/opt/foldwork/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
ENTRYPOINT ["foldwork"]
CMD ["--help"]
