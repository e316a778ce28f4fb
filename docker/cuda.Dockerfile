# PHQ with the generator, for machines with an NVIDIA GPU. torch brings its own CUDA libraries;
# the machine needs only the driver and the NVIDIA container toolkit.
FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends make git gcc libc6-dev libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /phq
COPY . .
# setup is phq[all], in the versions of the lock.
RUN make setup
ENV PATH="/phq/.venv/bin:${PATH}" NVIDIA_DRIVER_CAPABILITIES=all
ENTRYPOINT ["portraitgan"]
CMD ["--help"]
