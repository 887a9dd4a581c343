# The lab in a container: docker build -t mosld-lab . && docker run -p 7860:7860 -e MOSLD_HOSTS=lab.example.org mosld-lab
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 1000 lab
WORKDIR /home/lab/app
COPY requirements.txt .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt
COPY --chown=lab app.py README.md LICENSE pyproject.toml ./
COPY --chown=lab mosld mosld
USER lab
# TMPDIR: uploads, and the runs that a browser finds again after the container was started anew; give it a volume to keep them.
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False OMP_WAIT_POLICY=PASSIVE TMPDIR=/home/lab/runs PYTHONUNBUFFERED=1
RUN mkdir -m 700 /home/lab/runs
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/lab/health', timeout=4)"]
CMD ["python", "app.py"]
