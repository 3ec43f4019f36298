# sshd, also on port 22 of the vsock: `v ssh` needs no network.
{ config, lib, ... }:
let
  inherit (import ./priority.nix lib) prefer shape;
  inherit (config.services) openssh;
in
{
  services.openssh = {
    enable = prefer true;
    settings.PasswordAuthentication = prefer false;
    # One, made at the first boot. An RSA key takes minutes where the processor is emulated.
    hostKeys = prefer [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
    # Those that the host gives at each start, see seed.nix.
    authorizedKeysFiles = [ "/run/virshle/authorized_keys.d/%u" ];
  };
  # Who says so means it, so there is no sshd on the vsock either.
  warnings = lib.optional (
    !openssh.enable
  ) "services.openssh.enable is false: `v ssh` and `v run` cannot enter this machine. `v console` can.";

  # systemd's own would listen at the same port, in a way that differs from release to release.
  systemd.generators.systemd-ssh-generator = shape "/dev/null";

  systemd.sockets.virshle-ssh = lib.mkIf openssh.enable {
    description = "ssh over vsock";
    wantedBy = [ "sockets.target" ];
    # Not in a machine without the kernel's module; one without the device only never hears anything.
    unitConfig.ConditionPathExists = "/dev/vsock";
    listenStreams = [ "vsock::22" ];
    socketConfig = {
      Accept = true;
      # Many commands in a short time are no attack, and systemd would close the socket for good.
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
    # A switch made over this connection does not end it.
    restartIfChanged = false;
    serviceConfig = {
      ExecStart = "-${openssh.package}/bin/sshd -i -f /etc/ssh/sshd_config";
      StandardInput = "socket";
      StandardError = "journal";
      KillMode = "process";
    };
  };
}
