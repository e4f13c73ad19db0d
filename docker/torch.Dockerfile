# PyTorch with syncbn's layer, and the tool. From the top of the repository:
#
#   docker build -f docker/torch.Dockerfile -t syncbn:torch .
#   docker run --rm --shm-size 1g syncbn:torch                            what the layer's exchange costs
#   docker run --rm --shm-size 1g -v "$PWD":/work -w /work syncbn:torch torchrun --nproc-per-node 2 train.py
#
# PyTorch is the one for CPUs. TORCH_INDEX is where pip takes it from; with https://download.pytorch.org/whl/cu130
# it is for CUDA devices, for which the layer's own kernels take a build with CUDA's compiler (SYNCBN_CUDA).
# What PyTorch depends on is not pinned. Else it is as cpu.Dockerfile says.
ARG BASE=docker.io/library/debian:bookworm-slim
ARG SNAPSHOT=20261115T000000Z
ARG SNAPSHOT_SITE=http://snapshot.debian.org
ARG SOURCE_DATE_EPOCH=1794700800

FROM ${BASE} AS build
ARG SNAPSHOT SNAPSHOT_SITE SOURCE_DATE_EPOCH
WORKDIR /src
COPY docker/apt-snapshot docker/
RUN docker/apt-snapshot "$SNAPSHOT" "$SNAPSHOT_SITE"
COPY . .
RUN docker/make-packages
RUN docker/make-wheel

FROM ${BASE} AS image
ARG SNAPSHOT SNAPSHOT_SITE SOURCE_DATE_EPOCH
ARG TORCH=2.15.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY docker/apt-snapshot docker/furnish docker/ssh_config docker/sshd_config /tmp/docker/
COPY --from=build /packages /tmp/packages
COPY --from=build /wheels /tmp/wheels
RUN /tmp/docker/apt-snapshot "$SNAPSHOT" "$SNAPSHOT_SITE" \
 && /tmp/docker/furnish python3-venv \
 && python3 -m venv /opt/torch \
 && /opt/torch/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch==$TORCH" \
 && /opt/torch/bin/pip install --no-cache-dir --no-deps numpy==2.4.6 /tmp/wheels/*.whl \
 && rm -r /tmp/wheels

FROM build AS contents
ARG SOURCE_DATE_EPOCH
COPY --from=image /etc/os-release /image/etc/
COPY --from=image /var/lib/dpkg /image/var/lib/dpkg
RUN docker/list-contents /image
COPY --from=image /opt/torch /opt/torch
RUN docker/list-python /opt/torch

FROM image
COPY --from=contents /sbom /usr/share/doc/syncbn
ENV PATH=/opt/torch/bin:$PATH OMPI_MCA_btl_vader_single_copy_mechanism=none
USER 1000:1000
WORKDIR /home/syncbn
HEALTHCHECK --interval=10m --timeout=2m --retries=2 CMD ["nice", "syncbn", "check", "--quick"]
CMD ["torchrun", "--nproc-per-node", "2", "-m", "syncbn.torch.bench"]
