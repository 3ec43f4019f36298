# sshd, also on port 22 of the vsock, so `v ssh` needs no network.
{ config, lib, ... }:
let
  inherit (import ./priority.nix lib) prefer shape;
  inherit (config.services) openssh;
in
{
  services.openssh = {
    enable = prefer true;
    settings.PasswordAuthentication = prefer false;
    # One key, made at the first boot. An RSA key takes minutes on an emulated processor.
    hostKeys = prefer [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
    # The keys that the host gives at each start, see seed.nix.
    authorizedKeysFiles = [ "/run/virshle/authorized_keys.d/%u" ];
  };
  # If `services.openssh.enable` is false, there is no sshd on the vsock either.
  warnings = lib.optional (
    !openssh.enable
  ) "services.openssh.enable is false: `v ssh` and `v run` cannot enter this machine. `v console` can.";

  # systemd's own generator would listen on the same port, in a way that differs between releases.
  systemd.generators.systemd-ssh-generator = shape "/dev/null";

  systemd.sockets.virshle-ssh = lib.mkIf openssh.enable {
    description = "ssh over vsock";
    wantedBy = [ "sockets.target" ];
    # Not without the kernel's module. Without the device, the socket never gets a connection, which does no harm.
    unitConfig.ConditionPathExists = "/dev/vsock";
    listenStreams = [ "vsock::22" ];
    socketConfig = {
      Accept = true;
      # Many connections in a short time are not an attack. By default systemd would close the socket for good.
      TriggerLimitIntervalSec = 0;
    };
  };
  systemd.services."virshle-ssh@" = lib.mkIf openssh.enable {
    description = "ssh over vsock, one connection";
    wants = [ "sshd-keygen.service" ];
    after = [
      "sshd-keygen.service"
      "virshle-seed.service"
    ];
    # A `nixos-rebuild switch` over this connection must not end it.
    restartIfChanged = false;
    serviceConfig = {
      ExecStart = "-${openssh.package}/bin/sshd -i -f /etc/ssh/sshd_config";
      StandardInput = "socket";
      StandardError = "journal";
      KillMode = "process";
    };
  };
}
