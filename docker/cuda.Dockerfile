# The syncbn tool and library for machines with CUDA devices: all but training, which is the CPU's. From
# the top of the repository:
#
#   docker build -f docker/cuda.Dockerfile -t syncbn:cuda .
#   docker run --rm --gpus all syncbn:cuda                                what it has
#   docker run --rm --gpus all syncbn:cuda syncbn check --device cuda     anything else
#
# --gpus takes the NVIDIA container toolkit on the machine. MPI's and NCCL's messages between ranks of one
# container go through /dev/shm: give it --shm-size 1g.
ARG CUDA=13.0.1
ARG SYSTEM=ubuntu24.04

# Brings nvcc and NCCL.
FROM docker.io/nvidia/cuda:${CUDA}-devel-${SYSTEM} AS build
WORKDIR /src
COPY launcher/install-packages launcher/
RUN launcher/install-packages build && rm -rf /var/lib/apt/lists/*
COPY . .
# packages: those of the libraries that the tool is linked with, which each release names otherwise.
RUN cmake --preset release -DSYNCBN_CUDA=ON -DSYNCBN_NCCL=ON -DSYNCBN_MPI=ON -DSYNCBN_TOOL=ON \
      -DSYNCBN_ONEDNN=OFF -DSYNCBN_TESTS=OFF -DSYNCBN_DOCS=OFF \
 && cmake --build --preset release \
 && cmake --install build/release --prefix /opt/syncbn --strip \
 && ldd /opt/syncbn/bin/syncbn | awk '$2 == "=>" { print "*-linux-gnu/" $1 }' | xargs dpkg --search \
      | cut -d : -f 1 | sort -u > /opt/packages

# Brings NCCL.
FROM docker.io/nvidia/cuda:${CUDA}-runtime-${SYSTEM}
COPY --from=build /opt/packages /tmp/
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      openmpi-bin $(cat /tmp/packages) \
 && rm -rf /var/lib/apt/lists/* /tmp/packages \
 && useradd --create-home syncbn
COPY --from=build /opt/syncbn /opt/syncbn
# As in cpu.Dockerfile.
ENV PATH=/opt/syncbn/bin:$PATH \
    OMP_NUM_THREADS=1 \
    OMPI_MCA_hwloc_base_binding_policy=none \
    OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none
USER syncbn
WORKDIR /home/syncbn
CMD ["syncbn", "info"]
