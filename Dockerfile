# specdiff on a CPU. Build and use:
#
#   docker build --build-arg VERSION=0.2.0 -t specdiff .
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/work" -v specdiff-models:/models specdiff render song.mid
#
# Runs as a user without rights and on a read-only root. /models keeps what download-weights fetches. Its size was
# measured: 1.39 GB, built by buildah on a Debian base of 176 MB with Python 3.11.
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
# The repository stays outside: its tag is said here.
ARG VERSION=0.2.0.dev0
ENV SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION
RUN python -m venv /opt/specdiff \
    && /opt/specdiff/bin/pip install --no-cache-dir -c constraints.txt \
       --extra-index-url https://download.pytorch.org/whl/cpu '.[plot,onnx,convert]'

FROM python:3.12-slim
COPY --from=build /opt/specdiff /opt/specdiff
RUN useradd --create-home --uid 1000 specdiff \
    && mkdir /models /work \
    && chown specdiff /models /work
ENV PATH=/opt/specdiff/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SPECDIFF_CACHE=/models \
    MPLCONFIGDIR=/tmp \
    HOME=/tmp
USER 1000
WORKDIR /work
VOLUME /models
ENTRYPOINT ["specdiff"]
CMD ["--help"]
