# PHQ on a CPU, as pip installs it: the wheels of this checkout with the extras that EXTRAS names.
FROM python:3.12-slim-bookworm AS wheels
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./packages/phq_data ./packages/portraitgan ./flows ./annotator_app ./packages/phq

FROM python:3.12-slim-bookworm
# Faster rendering.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /phq
COPY docker/phq-serve.toml docker/
COPY --from=wheels /wheels /wheels
# Of the package phq, without spaces: postgres,s3 for example.
ARG EXTRAS=review
RUN pip install --no-cache-dir --find-links /wheels "$(echo /wheels/phq-*.whl)[${EXTRAS}]"
ENTRYPOINT ["phq"]
CMD ["--help"]
