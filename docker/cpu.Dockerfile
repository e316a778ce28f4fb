# PHQ on a CPU. The steps are those of .ci/run: system packages, then the Makefile.
FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends make git libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /phq
COPY . .
# setup-demo is phq, setup-review is phq-review[postgres], setup-team is phq[postgres,s3], setup is phq[all]:
# the same packages as by pip, in the versions of the lock.
ARG TARGET=setup-demo
RUN make ${TARGET}
ENV PATH="/phq/.venv/bin:${PATH}"
ENTRYPOINT ["phq"]
CMD ["--help"]
