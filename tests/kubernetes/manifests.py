# SPDX-License-Identifier: Apache-2.0
"""Reads the manifests of launcher/kubernetes, and finds what a careful cluster would refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
MANIFESTS = HERE.parents[1] / "launcher" / "kubernetes"
MPIJOB_SCHEMA = json.loads((HERE / "mpijob.schema.json").read_text())
# What is newer than the oldest of them, or no longer in the newest, is refused.
KUBERNETES = ("1.28", "1.37")
MIB = 1 << 20
MPI_TAKES = 4 * MIB  # of /dev/shm for each rank (src/app/doctor/shared_memory.cpp)

Document = dict[str, Any]


def read(file: Path) -> list[Document]:
    documents: list[Document] = list(yaml.safe_load_all(file.read_text()))
    return documents


def templates(document: Document) -> dict[str, Document]:
    """Returns the document's pod templates by what their pods are: Launcher and Worker, or Pod."""
    if document["kind"] == "MPIJob":
        replicas = document["spec"]["mpiReplicaSpecs"]
        return {role: replicas[role]["template"] for role in replicas}
    return {"Pod": document["spec"]["template"]} if document["kind"] == "Job" else {}


def complaints(document: Document) -> list[str]:
    """Returns what is wrong with a document; nothing more if the schema refuses it."""
    return list(schema_complaints(document)) or [
        f"{role}: {complaint}"
        for role, template in templates(document).items()
        for complaint in pod_complaints(template["spec"], ranks_of(document, role))
    ]


def ranks_of(document: Document, role: str) -> int:
    """Returns how many processes that pass messages through /dev/shm a pod has at least."""
    if document["kind"] == "MPIJob":
        return document["spec"]["slotsPerWorker"] if role == "Worker" else 0
    return 1


# --- schemas --------------------------------------------------------------------------------------


def schema_complaints(document: Document) -> Iterator[str]:
    if document["kind"] != "MPIJob":
        yield from complaints_of_kubernetes(document)
        return
    errors = list(jsonschema.Draft202012Validator(MPIJOB_SCHEMA).iter_errors(document))
    for error in errors:
        yield f"{place(error)}: {error.message}"
    if not errors:
        for template in templates(document).values():
            kind = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": document["metadata"]}
            yield from complaints_of_kubernetes({**kind, "template": template})


def complaints_of_kubernetes(document: Document) -> Iterator[str]:
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {place(error)}: {error.message}"


def place(error: jsonschema.ValidationError) -> str:
    return "/".join(map(str, error.absolute_path))


# --- what a pod may do ----------------------------------------------------------------------------


def pod_complaints(pod: Document, ranks: int) -> Iterator[str]:
    for field in ("hostIPC", "hostNetwork", "hostPID"):
        if pod.get(field):
            yield f"{field} shares what is the node's"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    user = pod.get("securityContext", {})
    if not (user.get("runAsNonRoot") and user.get("runAsUser") and user.get("runAsGroup")):
        yield "securityContext: it may run as root"
    if user.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "securityContext: seccompProfile is not RuntimeDefault"
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        yield from container_complaints(container)
        yield from volume_complaints(container, volumes, ranks)


def container_complaints(container: Document) -> Iterator[str]:
    context = container.get("securityContext", {})
    for field, value in (
        ("allowPrivilegeEscalation", False),
        ("readOnlyRootFilesystem", True),
        ("capabilities", {"drop": ["ALL"]}),
    ):
        if context.get(field) != value:
            yield f"{field} is not {value}"
    if context.get("privileged"):
        yield "privileged"
    resources = container.get("resources", {})
    limits = resources.get("limits", {})
    if not {"cpu", "memory"} <= limits.keys() or resources.get("requests") != limits:
        yield "resources: requests are not the limits of cpu and memory"
    if not re.fullmatch(r"[1-9]\d*", str(limits.get("cpu"))):
        yield "resources: the quota is not of whole processors"


def volume_complaints(
    container: Document, volumes: dict[str, Document], ranks: int
) -> Iterator[str]:
    mounted = {}
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
            return
        mounted[mount["mountPath"]] = volumes[mount["name"]]
    for path, volume in mounted.items():
        if "hostPath" in volume:
            yield f"{path} is a directory of the node"
        if "sizeLimit" not in volume.get("emptyDir", {"sizeLimit": None}):
            yield f"{path} has no sizeLimit"
    if "/tmp" not in mounted:
        yield "/tmp cannot be written"
    if ranks:
        memory = container.get("resources", {}).get("limits", {}).get("memory", "0")
        yield from shared_memory_complaints(mounted.get("/dev/shm"), ranks, bytes_of(memory))


def shared_memory_complaints(
    volume: Document | None, ranks: int, memory_of_pod: int
) -> Iterator[str]:
    if volume is None or volume.get("emptyDir", {}).get("medium") != "Memory":
        yield "/dev/shm is no memory of the pod's"
    else:
        size = bytes_of(volume["emptyDir"].get("sizeLimit", "0"))
        if size < ranks * MPI_TAKES:
            yield f"/dev/shm is too small for {ranks} ranks"
        if size >= memory_of_pod:
            yield "/dev/shm may take all of the pod's memory"


def bytes_of(quantity: str) -> int:
    """Returns the bytes of Kubernetes' "256Mi"."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity)
    if found is None:
        raise ValueError(f"{quantity} is no number of bytes that is understood here")
    return int(found[1]) << {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[found[2]]
