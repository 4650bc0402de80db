"""The processes of a node, and what each is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.cluster.node.place import DNS_SERVICE, NODE_NAME, PODS, SERVICES, Node

PAUSE_IMAGE = "localhost/headrace-node/pause:1"
DNS_IMAGE = "localhost/headrace-node/coredns:1"
STORE = ("etcd", "containerd", "kube-apiserver")
"""What needs nobody, and the API server, which waits for etcd."""
CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""What needs the API server."""
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def control_groups(node: Node) -> list[Path]:
    """The node's folder in each hierarchy: all pods are below. One with version 2, one a controller with version 1."""
    if (_CONTROL_GROUPS / "cgroup.controllers").exists():
        return [_CONTROL_GROUPS / node.name]
    found = {hierarchy.resolve() for hierarchy in _CONTROL_GROUPS.iterdir() if (hierarchy / "tasks").exists()}
    return sorted(hierarchy / node.name for hierarchy in found)


def commands(node: Node) -> dict[str, list[str]]:
    """Each component's command line. Nothing but the API server and kubelet listens beyond loopback."""
    state = node.state
    kube = {name: f"--kubeconfig={state}/{name}.kubeconfig" for name in ("controller-manager", "scheduler", "kubelet")}
    service_accounts = f"{state}/service-accounts.key"
    return {
        "etcd": [
            "etcd",
            f"--data-dir={state}/etcd",
            *("--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"),
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ],
        "containerd": ["containerd", f"--config={state}/containerd.toml"],
        "kube-apiserver": _api_server(node, service_accounts),
        "kube-controller-manager": [
            "kube-controller-manager",
            kube["controller-manager"],
            f"--service-account-private-key-file={service_accounts}",
            f"--root-ca-file={state}/ca.crt",
            f"--flex-volume-plugin-dir={node.storage}/volume-plugins",
            "--use-service-account-credentials=true",
            *("--leader-elect=false", "--secure-port=0"),
            *("--kube-api-qps=200", "--kube-api-burst=400"),
        ],
        "kube-scheduler": ["kube-scheduler", kube["scheduler"], "--leader-elect=false", "--secure-port=0"],
        "kubelet": [
            "kubelet",
            kube["kubelet"],
            f"--config={state}/kubelet.yaml",
            f"--root-dir={node.storage}/kubelet",
            f"--node-ip={node.address}",
            f"--hostname-override={NODE_NAME}",
        ],
        "kube-proxy": ["kube-proxy", f"--config={state}/proxy.yaml"],
    }


def _api_server(node: Node, service_accounts: str) -> list[str]:
    state = node.state
    return [
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        *(f"--advertise-address={node.address}", "--secure-port=6443"),
        *(f"--tls-cert-file={state}/apiserver.crt", f"--tls-private-key-file={state}/apiserver.key"),
        *(f"--client-ca-file={state}/ca.crt", "--anonymous-auth=false"),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",  # so that it is Pod Security that refuses
        f"--service-cluster-ip-range={SERVICES}",
        "--service-account-issuer=https://kubernetes.default.svc",
        *(f"--service-account-key-file={service_accounts}", f"--service-account-signing-key-file={service_accounts}"),
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={state}/ca.crt",
        f"--kubelet-client-certificate={state}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={state}/apiserver-to-kubelet.key",
    ]


def write_configuration(node: Node) -> None:
    """The files that the commands name."""
    for name, content in _files(node):
        (node.state / name).write_text(content)


def _files(node: Node) -> Iterator[tuple[str, str]]:
    (node.state / "cni").mkdir()
    yield "cni/pods.conflist", json.dumps(_pod_network())
    yield "containerd.toml", _CONTAINERD.format(root=node.storage / "containerd", pause=PAUSE_IMAGE, state=node.state)
    yield "kubelet.yaml", yaml.safe_dump(_kubelet(node))
    yield "proxy.yaml", yaml.safe_dump(_proxy(node))


# Version 2 of the format, which containerd 1 and 2 read. The machine may not let us lower an OOM score.
_CONTAINERD = """\
version = 2
root = "{root}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _pod_network() -> dict[str, object]:
    # Point to point, not a bridge: between pods on a bridge a service's answers would bypass kube-proxy's rules
    # where the kernel has no br_netfilter.
    addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}


def _kubelet(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{node.state}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{node.state}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{node.state}/kubelet-server.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "podLogsDir": f"{node.storage}/pods",
        "volumePluginDir": f"{node.storage}/volume-plugins",
        # A fullish disk is the developer's own affair, and images that were loaded cannot be pulled again.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }


def _proxy(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{node.state}/proxy.kubeconfig"},
        "clusterCIDR": PODS,
        "hostnameOverride": NODE_NAME,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
