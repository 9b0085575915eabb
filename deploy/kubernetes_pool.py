"""Print the base job template of a Kubernetes work pool for nights: Prefect's own, with a volume, a user and GPUs.

python deploy/kubernetes_pool.py > kubernetes-pool.json
prefect work-pool create studio-kubernetes --type kubernetes --base-job-template kubernetes-pool.json
"""

import json
from importlib.resources import files
from typing import Any

WORKERS = "server/api/collections_data/views/aggregate-worker-metadata.json"  # Prefect ships it for its UI

VARIABLES = {
    "claim": {
        "title": "Claim",
        "description": "The persistent volume claim with the studio's parent directory.",
        "default": "studios",
        "type": "string",
    },
    "user": {
        "title": "User",
        "description": "The user id that owns the studio's files; git and DVC run as this user.",
        "default": 1000,
        "type": "integer",
    },
    "gpus": {
        "title": "GPUs",
        "description": "The number of NVIDIA GPUs of a night.",
        "default": 0,
        "type": "integer",
    },
}


def template() -> dict[str, Any]:
    """Return the template. Raises KeyError if Prefect's default has another structure."""
    workers = json.loads((files("prefect") / WORKERS).read_text(encoding="utf-8"))
    result: dict[str, Any] = workers["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    pod = result["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = "{{ gpus }}"
    container["volumeMounts"] = [{"name": "studios", "mountPath": "/studios"}]
    pod["securityContext"] = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), "{{ user }}")
    pod["volumes"] = [{"name": "studios", "persistentVolumeClaim": {"claimName": "{{ claim }}"}}]
    result["variables"]["properties"] |= VARIABLES
    return result


if __name__ == "__main__":
    print(json.dumps(template(), indent=2))
