# `tpo`, with `tpo serve` as its default command; docs/serve.md says how to use it.
#   docker build -t tpo-graph .
FROM python:3.13-slim-trixie AS built

# "serve,postgres" leaves out torch and transformers, which only "local:" models need.
ARG EXTRAS=serve,postgres,local,json-schema
# torch's builds without CUDA; PyPI's would bring gigabytes of it. Of the same version as in the lock.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY requirements/lock.txt requirements/lock.txt
RUN python -m venv /opt/tpo \
    && /opt/tpo/bin/python -m pip install --no-cache-dir --constraint requirements/lock.txt \
        pip hatchling \
    && case ",$EXTRAS," in \
        *,local,*) /opt/tpo/bin/python -m pip install --no-cache-dir \
            --constraint requirements/lock.txt --index-url "$TORCH_INDEX" torch ;; \
        esac
COPY pyproject.toml README.md LICENSE ./
COPY prompts prompts
COPY alembic alembic
COPY tpo_graph tpo_graph
RUN /opt/tpo/bin/python -m pip install --no-cache-dir --constraint requirements/lock.txt \
        --no-build-isolation ".[$EXTRAS]"

FROM python:3.13-slim-trixie
COPY --from=built /opt/tpo /opt/tpo
RUN useradd --create-home --uid 1000 tpo \
    && mkdir /data \
    && chown tpo /data
USER 1000
WORKDIR /data
ENV PATH=/opt/tpo/bin:$PATH \
    TPO_SERVE_HOST=0.0.0.0 \
    TPO_SERVE_LOG_JSON=true
EXPOSE 8100
# Others than the container could connect, so the server starts with a TPO_SERVE_API_KEY only.
HEALTHCHECK --interval=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8100/ready', timeout=5)"]
ENTRYPOINT ["tpo"]
CMD ["serve"]
