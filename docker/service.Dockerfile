# The image of a season's service and queue: the evaluator, on the image that submissions run in, which has what it needs
# but for the packages of a season and of the web. Built by `make build-service`, with the repository as its context;
# compose.yaml runs it. Needs no BuildKit.

ARG BASE_IMAGE=fusionbrain/fbc2:latest

FROM ${BASE_IMAGE}
USER root
# Where pip looks, as in the other Dockerfile.
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY docker/wheels /wheels
COPY docker/requirements.web.lock /build/
RUN ["pip", "install", "--no-cache-dir", "--require-hashes", "-r", "/build/requirements.web.lock"]
WORKDIR /opt/fusionbrain
COPY evaluator evaluator
RUN ["python3", "-m", "compileall", "-q", "evaluator"]
# Not the user of the runs.
RUN ["useradd", "--uid", "10002", "--user-group", "--no-create-home", "--home-dir", "/tmp", "season"]
USER 10002:10002
CMD ["python3", "-m", "evaluator", "season", "serve", "--help"]
