#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does with a manifest what Kubernetes and the MPI operator would, for a rehearsal without them.

It refuses fields that it has no counterpart for, so that nothing of a manifest is left out in silence.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manifests import Document, bytes_of, read, templates

SSH_KEYS = "ssh-keys"  # volumes of the operator
CONFIGURATION = "configuration"


# --- the MPI operator -----------------------------------------------------------------------------


def hostfile(job: Document, namespace: str) -> str:
    """Returns what the operator has in /etc/mpi/hostfile."""
    name, slots = job["metadata"]["name"], job["spec"]["slotsPerWorker"]
    workers = range(job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"])
    return "".join(f"{name}-worker-{i}.{name}.{namespace}.svc slots={slots}\n" for i in workers)


def completed(job: Document, role: str) -> Document:
    """Returns the pod that the operator makes of a template: with its variables, volumes and sshd."""
    pod: Document = json.loads(json.dumps(templates(job)[role]["spec"]))
    container = pod["containers"][0]
    if role == "Worker" and not container.get("command") and not container.get("args"):
        container["command"] = ["/usr/sbin/sshd", "-De"]
    variables = {"K_MPI_JOB_ROLE": role.lower()}
    volumes = {SSH_KEYS: job["spec"]["sshAuthMountPath"]}
    if role == "Launcher":
        volumes[CONFIGURATION] = "/etc/mpi"
        variables |= {
            "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
            "OMPI_MCA_orte_default_hostfile": "/etc/mpi/hostfile",
            "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
            "OMPI_MCA_orte_set_default_slots": str(job["spec"]["slotsPerWorker"]),
            "NVIDIA_VISIBLE_DEVICES": "",
            "NVIDIA_DRIVER_CAPABILITIES": "",
        }
    container.setdefault("env", []).extend(
        {"name": name, "value": value} for name, value in variables.items()
    )
    for name, path in volumes.items():
        pod["volumes"].append({"name": name, "secret": {}})
        container["volumeMounts"].append({"name": name, "mountPath": path})
    return pod


# --- a node of Kubernetes -------------------------------------------------------------------------


def podman_arguments(pod: Document, files: Mapping[str, Path], arguments: list[str]) -> list[str]:
    """Returns what `podman run` takes for a pod: options, the image, and arguments.

    `files` are the directories of volumes that hold files; `arguments` replace the container's, if
    there are any.
    """
    pod = json.loads(json.dumps(pod))
    (container,) = pod.pop("containers")
    variables = {variable["name"]: variable["value"] for variable in container.pop("env", ())}
    words = [container.pop(part, []) for part in ("command", "args")]
    command, given = ([expanded(word, variables) for word in part] for part in words)
    volumes = {volume.pop("name"): volume for volume in pod.pop("volumes", ())}
    options = [
        *user_options(pod.pop("securityContext", {})),
        *confining_options(container.pop("securityContext", {})),
        *limiting_options(container.pop("resources", {})),
        *mounting_options(container.pop("volumeMounts", ()), volumes, files),
        *(f"--env={name}={value}" for name, value in variables.items()),
        *([f"--entrypoint={json.dumps(command)}"] if command else ()),
    ]
    image = container.pop("image")
    # What is without a counterpart in podman, and what the rehearsal does itself.
    for node, fields in (
        (pod, ("automountServiceAccountToken", "restartPolicy", "subdomain")),
        (container, ("name", "startupProbe")),
    ):
        for field in fields:
            node.pop(field, None)
        refuse_rest(node)
    return [*options, image, *(arguments or given)]


def expanded(word: str, variables: Mapping[str, str]) -> str:
    """Returns the word with the values of variables in the place of "$(NAME)"."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), word)


def user_options(context: Document) -> Iterator[str]:
    yield f"--user={context.pop('runAsUser', 0)}:{context.pop('runAsGroup', 0)}"
    context.pop("runAsNonRoot", None)
    if context.pop("seccompProfile", None) != {"type": "RuntimeDefault"}:
        yield "--security-opt=seccomp=unconfined"
    refuse_rest(context)


def confining_options(context: Document) -> Iterator[str]:
    if context.pop("allowPrivilegeEscalation", True) is False:
        yield "--security-opt=no-new-privileges"
    if context.pop("readOnlyRootFilesystem", False):
        yield from ("--read-only", "--read-only-tmpfs=false")
    capabilities = context.pop("capabilities", {})
    yield from (f"--cap-drop={name}" for name in capabilities.pop("drop", ()))
    refuse_rest(capabilities)
    refuse_rest(context)


def limiting_options(resources: Document) -> Iterator[str]:
    limits = resources.pop("limits", {})
    if "cpu" in limits:
        yield f"--cpus={limits.pop('cpu')}"
    if "memory" in limits:
        yield f"--memory={bytes_of(limits.pop('memory'))}b"
    refuse_rest(limits)


def mounting_options(
    mounts: list[Document], volumes: Mapping[str, Document], files: Mapping[str, Path]
) -> Iterator[str]:
    for mount in mounts:
        name, path = mount["name"], mount["mountPath"]
        if "emptyDir" not in volumes[name]:
            yield f"--volume={files[name].resolve()}:{path}:ro"
            continue
        directory = volumes[name]["emptyDir"]
        size = bytes_of(directory["sizeLimit"])
        if path == "/dev/shm" and directory.get("medium") == "Memory":
            yield f"--shm-size={size}b"
        else:
            yield f"--mount=type=tmpfs,destination={path},tmpfs-size={size},tmpfs-mode=1777"


def refuse_rest(node: Document) -> None:
    if node:
        raise SystemExit(f"stand_in.py: what the manifest has of {node} has no counterpart here.")


# --- the program ----------------------------------------------------------------------------------


def command_of(pod: Document, files: Mapping[str, Path]) -> list[str]:
    """Returns a container's command with directories of this machine in the place of its volumes."""
    container = pod["containers"][0]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    words = [expanded(word, variables) for word in (*container["command"], *container["args"])]
    for mount in container["volumeMounts"]:
        if mount["name"] in files:
            words = [
                re.sub(f"^{mount['mountPath']}/", f"{files[mount['name']]}/", w) for w in words
            ]
    return words


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        choices=["hostfile", "podman", "command"],
        help="the hostfile of an MPIJob; what `podman run` takes for a pod; a pod's command by itself",
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--role", default="Pod", help="Launcher or Worker of an MPIJob")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--env", type=pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--files", type=pair, action="append", default=[], metavar="VOLUME=DIRECTORY"
    )
    parser.add_argument(
        "--arguments",
        nargs=argparse.REMAINDER,
        default=[],
        help="what follows is in the place of the container's",
    )
    chosen = parser.parse_args()

    document: Document = next(d for d in read(chosen.manifest) if templates(d))
    if chosen.what == "hostfile":
        print(hostfile(document, chosen.namespace), end="")
        return
    of_operator = document["kind"] == "MPIJob"
    pod: Any = (
        completed(document, chosen.role) if of_operator else templates(document)["Pod"]["spec"]
    )
    variables = pod["containers"][0].setdefault("env", [])
    variables += [{"name": name, "value": value} for name, value in chosen.env]
    files = {name: Path(directory) for name, directory in chosen.files}
    if chosen.what == "podman":
        words = podman_arguments(pod, files, chosen.arguments)
    else:
        words = command_of(pod, files)
    sys.stdout.write("".join(f"{word}\0" for word in words))


if __name__ == "__main__":
    main()
