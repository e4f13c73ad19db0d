#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manifests of launcher/kubernetes are as Kubernetes and a careful cluster want them."""

from __future__ import annotations

import json
import unittest
from typing import Any

from manifests import MANIFESTS, Document, complaints, read

MPIJOB = read(MANIFESTS / "mpijob.yaml")[0]
SERVICE, JOB = read(MANIFESTS / "torchrun.yaml")
MISSING = object()

LAUNCHER = ("spec", "mpiReplicaSpecs", "Launcher", "template", "spec")
WORKER = ("spec", "mpiReplicaSpecs", "Worker", "template", "spec")
POD = ("spec", "template", "spec")
MAIN = ("containers", 0)


def planted(document: Document, path: tuple[str | int, ...], value: Any) -> Document:
    """Returns a copy that has the value there; MISSING takes away what was there."""
    # Through JSON, as anchors make parts of a manifest the same object.
    changed: Document = json.loads(json.dumps(document))
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    if value is MISSING:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


class Manifests(unittest.TestCase):
    def test_have_no_faults(self) -> None:
        files = sorted(MANIFESTS.glob("*.yaml"))
        self.assertEqual(["mpijob.yaml", "torchrun.yaml"], [file.name for file in files])
        for file in files:
            for document in read(file):
                with self.subTest(file.name, kind=document["kind"]):
                    self.assertEqual([], complaints(document))

    def refused(
        self, document: Document, path: tuple[str | int, ...], value: Any, complaint: str
    ) -> None:
        with self.subTest(path="/".join(map(str, path)), value=str(value)):
            found = complaints(planted(document, path, value))
            self.assertTrue(any(complaint in line for line in found), f"{complaint} not in {found}")

    def test_with_a_misspelt_field_are_refused(self) -> None:
        for document, path in (
            (MPIJOB, ("spec", "slotsPerWorkr")),
            (MPIJOB, ("spec", "runPolicy", "cleanPodPolice")),
            (MPIJOB, ("spec", "mpiReplicaSpecs", "Workers")),
            (MPIJOB, (*WORKER, "hostNetwrk")),
            (MPIJOB, (*LAUNCHER, *MAIN, "volumeMount")),
            (JOB, ("spec", "completion")),
            (JOB, (*POD, *MAIN, "securityContext", "readOnlyRootFileSystem")),
            (SERVICE, ("spec", "publishNotReadyAdresses")),
        ):
            self.refused(document, path, {}, f"'{path[-1]}' was unexpected")

    def test_with_a_value_of_another_type_are_refused(self) -> None:
        for document, path, value in (
            (MPIJOB, ("spec", "slotsPerWorker"), "2"),
            (MPIJOB, ("spec", "launcherCreationPolicy"), "WaitForWorkers"),
            (MPIJOB, (*WORKER, "automountServiceAccountToken"), "false"),
            (MPIJOB, (*LAUNCHER, *MAIN, "args", 4), 4),
            (JOB, ("spec", "completions"), "2"),
            (JOB, (*POD, "securityContext", "runAsUser"), "1000"),
            (SERVICE, ("spec", "ports", 0, "port"), "29500"),
        ):
            self.refused(document, path, value, f"{value!r} is not ")

    def test_that_trust_a_pod_with_too_much_are_refused(self) -> None:
        for document, pod in ((MPIJOB, LAUNCHER), (MPIJOB, WORKER), (JOB, POD)):
            context = (*pod, *MAIN, "securityContext")
            for path, value, complaint in (
                ((*pod, "hostIPC"), True, "hostIPC"),
                ((*pod, "hostNetwork"), True, "hostNetwork"),
                ((*pod, "hostPID"), True, "hostPID"),
                ((*pod, "automountServiceAccountToken"), MISSING, "automountServiceAccountToken"),
                ((*pod, "securityContext"), MISSING, "it may run as root"),
                ((*pod, "securityContext", "runAsNonRoot"), False, "it may run as root"),
                ((*pod, "securityContext", "runAsUser"), 0, "it may run as root"),
                ((*pod, "securityContext", "runAsGroup"), MISSING, "it may run as root"),
                (
                    (*pod, "securityContext", "seccompProfile", "type"),
                    "Unconfined",
                    "seccompProfile",
                ),
                ((*context, "readOnlyRootFilesystem"), MISSING, "readOnlyRootFilesystem"),
                ((*context, "allowPrivilegeEscalation"), MISSING, "allowPrivilegeEscalation"),
                ((*context, "capabilities"), {"drop": ["NET_RAW"]}, "capabilities"),
                ((*context, "capabilities", "add"), ["SYS_PTRACE"], "capabilities"),
                ((*context, "privileged"), True, "privileged"),
                (
                    (*pod, "volumes", index_of_volume(document, pod, "tmp")),
                    {"name": "tmp", "hostPath": {"path": "/tmp"}},
                    "of the node",
                ),
            ):
                self.refused(document, path, value, complaint)

    def test_that_do_not_bound_what_a_pod_takes_are_refused(self) -> None:
        for document, pod in ((MPIJOB, LAUNCHER), (MPIJOB, WORKER), (JOB, POD)):
            for path, value, complaint in (
                ((*MAIN, "resources"), MISSING, "requests are not the limits"),
                ((*MAIN, "resources", "requests", "cpu"), "500m", "requests are not the limits"),
                ((*MAIN, "resources", "limits", "memory"), MISSING, "requests are not the limits"),
                ((*MAIN, "resources", "limits", "cpu"), "1500m", "whole processors"),
                ((*MAIN, "volumeMounts"), [], "/tmp cannot be written"),
            ):
                self.refused(document, (*pod, *path), value, complaint)

    def test_with_a_wrong_shared_memory_are_refused(self) -> None:
        for document, pod in ((MPIJOB, WORKER), (JOB, POD)):
            volume = (*pod, "volumes", index_of_volume(document, pod, "shared-memory"))
            for path, value, complaint in (
                ((*volume, "emptyDir", "medium"), MISSING, "no memory of the pod's"),
                ((*volume, "emptyDir", "sizeLimit"), MISSING, "/dev/shm has no sizeLimit"),
                ((*volume, "emptyDir", "sizeLimit"), "3Mi", "too small"),
                ((*volume, "emptyDir", "sizeLimit"), "8Gi", "all of the pod's memory"),
                ((*volume, "name"), "other", "there is no volume shared-memory"),
                (
                    (*pod, *MAIN, "volumeMounts"),
                    [{"name": "tmp", "mountPath": "/tmp"}],
                    "no memory",
                ),
            ):
                self.refused(document, path, value, complaint)


class MpiJob(unittest.TestCase):
    def test_has_one_image_of_all_pods(self) -> None:
        images = {
            pod["containers"][0]["image"]
            for pod in (pod_of(MPIJOB, LAUNCHER), pod_of(MPIJOB, WORKER))
        }
        self.assertEqual(1, len(images), images)

    def test_gives_each_rank_a_processor(self) -> None:
        limits = pod_of(MPIJOB, WORKER)["containers"][0]["resources"]["limits"]
        self.assertEqual(int(limits["cpu"]), MPIJOB["spec"]["slotsPerWorker"])


class TorchrunJob(unittest.TestCase):
    def test_has_one_number_of_pods(self) -> None:
        spec = JOB["spec"]
        self.assertEqual(spec["completions"], spec["parallelism"])
        self.assertIn(f"--nnodes={spec['completions']}", arguments())

    def test_finds_the_first_pod_by_the_name_that_the_service_gives_it(self) -> None:
        name, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]
        self.assertIn(f"--master-addr={name}-0.{service}", arguments())
        self.assertEqual(service, pod_of(JOB, POD)["subdomain"])
        self.assertEqual({"job-name": name}, SERVICE["spec"]["selector"])
        self.assertIn(f"--master-port={SERVICE['spec']['ports'][0]['port']}", arguments())

    def test_starts_a_process_on_each_processor(self) -> None:
        limits = pod_of(JOB, POD)["containers"][0]["resources"]["limits"]
        self.assertIn(f"--nproc-per-node={limits['cpu']}", arguments())


def index_of_volume(document: Document, pod: tuple[str, ...], name: str) -> int:
    return [volume["name"] for volume in pod_of(document, pod)["volumes"]].index(name)


def arguments() -> list[str]:
    found: list[str] = pod_of(JOB, POD)["containers"][0]["args"]
    return found


def pod_of(document: Document, path: tuple[str, ...]) -> Document:
    for key in path:
        document = document[key]
    return document


if __name__ == "__main__":
    unittest.main()
