# Tells the host that the machine is up, and its ssh host key. On cloud-hypervisor, systemd itself sends READY=1 to the
# address in the credential vmm.notify_socket. On QEMU, systemd cannot write to the port, so this service sends it.
{
  config,
  pkgs,
  ...
}:
{
  systemd.services.virshle-ready = {
    description = "Tell the host that this machine is ready";
    wantedBy = [ "multi-user.target" ];
    # systemd sends READY=1 when all jobs are done. This is one of the jobs, so the host gets the key before READY=1.
    after = [
      "multi-user.target"
      "sshd.service"
      "sshd-keygen.service"
    ];
    path = [ pkgs.socat ];
    environment = {
      HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub";
      PORT = "/dev/virtio-ports/org.virshle.ready.0";
      NICS = "/sys/class/net";
      WAIT_ONLINE = "${config.systemd.package}/lib/systemd/systemd-networkd-wait-online";
    };
    script = builtins.readFile ./ready.sh;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ImportCredential = "vmm.notify_socket";
    };
  };
}
