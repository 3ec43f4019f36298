# Tells the host that the machine is up, and the key by which its sshd is known. On cloud-hypervisor systemd itself says
# READY=1, to the address in the credential vmm.notify_socket; on QEMU nothing of systemd's writes to a port.
{
  config,
  pkgs,
  ...
}:
{
  systemd.services.virshle-ready = {
    description = "Tell the host that this machine is ready";
    wantedBy = [ "multi-user.target" ];
    # systemd says READY=1 when no job is left, this one among them, so the key is always told before.
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
