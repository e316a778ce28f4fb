# PHQ with the generator, for machines with an NVIDIA GPU. torch brings its own CUDA libraries;
# the machine needs only the driver and the NVIDIA container toolkit.
FROM python:3.12-slim-bookworm AS wheels
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./packages/phq_data ./packages/portraitgan ./flows ./annotator_app ./packages/phq

FROM python:3.12-slim-bookworm
# A compiler for torch.compile; rendering.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /phq
COPY --from=wheels /wheels /wheels
# Of the package phq, without spaces.
ARG EXTRAS=gpu,viewer,hub
RUN pip install --no-cache-dir --find-links /wheels "$(echo /wheels/phq-*.whl)[${EXTRAS}]"
ENV NVIDIA_DRIVER_CAPABILITIES=all
ENTRYPOINT ["portraitgan"]
CMD ["--help"]
