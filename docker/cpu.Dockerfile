# The syncbn tool for machines without a GPU. From the top of the repository:
#
#   docker build -f docker/cpu.Dockerfile -t syncbn .
#   docker run --rm syncbn                                  the main job: two ranks train
#   docker run --rm syncbn mpirun -n 2 syncbn check         anything else
#
# Open MPI's own messages between ranks of one container go through /dev/shm: give it --shm-size 64m or more.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY launcher/install-packages launcher/
RUN launcher/install-packages build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cmake --preset release -DSYNCBN_TOOL=ON -DSYNCBN_ONEDNN=ON -DSYNCBN_MPI=ON \
      -DSYNCBN_TESTS=OFF -DSYNCBN_DOCS=OFF -DSYNCBN_UNITY=ON \
 && cmake --build --preset release \
 && cmake --install build/release --prefix /opt/syncbn --strip

FROM ${BASE}
COPY launcher/install-packages /tmp/
RUN /tmp/install-packages runtime data && rm -rf /var/lib/apt/lists/* /tmp/install-packages \
 && useradd --create-home --uid 1000 syncbn
COPY --from=build /opt/syncbn /opt/syncbn
# Threads are not bound to a rank's one core; more ranks than cores are allowed; memory of another
# process is not read directly, which a container's default profile forbids.
ENV PATH=/opt/syncbn/bin:$PATH \
    OMP_NUM_THREADS=1 \
    OMPI_MCA_hwloc_base_binding_policy=none \
    OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none
USER syncbn
WORKDIR /home/syncbn
CMD ["mpirun", "-n", "2", "syncbn", "train", "--model", "cnn"]
