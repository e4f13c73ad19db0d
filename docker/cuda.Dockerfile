# The syncbn tool for machines with CUDA devices. From the top of the repository:
#
#   docker build -f docker/cuda.Dockerfile -t syncbn:cuda .
#   docker run --rm --gpus all syncbn:cuda                                             what it has
#   docker run --rm --gpus all --shm-size 1g syncbn:cuda syncbn-run syncbn check --device cuda
#
# Running it takes the NVIDIA container toolkit on the machine (--gpus). Ubuntu's packages in it are those of
# the day on which it is built; else it is as cpu.Dockerfile says. ARCHITECTURES are the compute capabilities
# of the devices it is for, e.g. 90 for H100: fewer are built faster.
ARG BASE=docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04
ARG SOURCE_DATE_EPOCH=1794700800
ARG BUILD_BASE=docker.io/nvidia/cuda:13.0.1-devel-ubuntu24.04

# Brings nvcc and NCCL.
FROM ${BUILD_BASE} AS build
ARG ARCHITECTURES
WORKDIR /src
COPY . .
RUN docker/make-packages -DSYNCBN_CUDA=ON -DSYNCBN_NCCL=ON \
      ${ARCHITECTURES:+-DCMAKE_CUDA_ARCHITECTURES=$ARCHITECTURES} \
 && dpkg-query --show --showformat '${Package}=${Version}' libnccl2 > /packages/nccl

FROM ${BASE} AS image
COPY docker/furnish docker/ssh_config docker/sshd_config /tmp/docker/
COPY --from=build /packages /tmp/packages
RUN /tmp/docker/furnish "$(cat /tmp/packages/nccl)"

FROM build AS contents
ARG SOURCE_DATE_EPOCH
COPY --from=image /etc/os-release /image/etc/
COPY --from=image /var/lib/dpkg /image/var/lib/dpkg
RUN docker/list-contents /image

FROM image
COPY --from=contents /sbom /usr/share/doc/syncbn
ENV OMPI_MCA_btl_vader_single_copy_mechanism=none
USER 1000:1000
WORKDIR /home/syncbn
HEALTHCHECK --interval=10m --timeout=2m --retries=2 CMD ["nice", "syncbn", "check", "--quick"]
CMD ["syncbn", "info"]
