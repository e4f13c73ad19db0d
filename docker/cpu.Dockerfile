# The syncbn tool for machines without a GPU. From the top of the repository:
#
#   docker build -f docker/cpu.Dockerfile -t syncbn:cpu .
#   docker run --rm --shm-size 1g syncbn:cpu                              the main job: ranks train
#   docker run --rm --shm-size 1g syncbn:cpu syncbn-run syncbn check      anything else
#
# It runs as a user, and with `--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges`
# too. MPI takes 4 MiB of /dev/shm for each rank of a container. Containers of several hosts make one job
# by the sshd that is in it (launcher/kubernetes).
#
# SNAPSHOT is the date of the Debian archive whose packages it has; an empty one is today's. For the same
# image to the bit, give BASE by its digest, and build with `--timestamp` of buildah or podman, or
# `rewrite-timestamp=true` of BuildKit. podman and buildah keep the health check with `--format docker`. What it consists of is listed in /usr/share/doc/syncbn/sbom.spdx.json.
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

FROM ${BASE} AS image
ARG SNAPSHOT SNAPSHOT_SITE SOURCE_DATE_EPOCH
COPY docker/apt-snapshot docker/furnish docker/ssh_config docker/sshd_config /tmp/docker/
COPY --from=build /packages /tmp/packages
RUN /tmp/docker/apt-snapshot "$SNAPSHOT" "$SNAPSHOT_SITE" && /tmp/docker/furnish

FROM build AS contents
ARG SOURCE_DATE_EPOCH
COPY --from=image /etc/os-release /image/etc/
COPY --from=image /var/lib/dpkg /image/var/lib/dpkg
RUN docker/list-contents /image

FROM image
COPY --from=contents /sbom /usr/share/doc/syncbn
# Memory of another process is not read directly, which a container's default profile forbids.
ENV OMPI_MCA_btl_vader_single_copy_mechanism=none
# By number, which Kubernetes' runAsNonRoot takes.
USER 1000:1000
WORKDIR /home/syncbn
HEALTHCHECK --interval=10m --timeout=2m --retries=2 CMD ["nice", "syncbn", "check", "--quick"]
CMD ["syncbn-run", "syncbn", "train", "--model", "cnn"]
