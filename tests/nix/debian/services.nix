# What NixOS has of its own beside the guest module, as far as the module relies on it.
{ config, lib, pkgs, ... }:
let
  inherit (config.services) openssh;
in
{
  systemd.services = {
    sshd-keygen = {
      description = "SSH host keys";
      script = lib.concatMapStrings (key: ''
        [ -s ${key.path} ] || ${openssh.package}/bin/ssh-keygen -q -t ${key.type} -N "" -f ${key.path}
      '') openssh.hostKeys;
      serviceConfig.Type = "oneshot";
      serviceConfig.RemainAfterExit = true;
    };
    sshd = {
      description = "SSH daemon";
      wantedBy = [ "multi-user.target" ];
      wants = [ "sshd-keygen.service" ];
      after = [
        "network.target"
        "sshd-keygen.service"
      ];
      serviceConfig.ExecStart = "${openssh.package}/bin/sshd -D -f /etc/ssh/sshd_config";
      serviceConfig.KillMode = "process";
    };
    # nixos/modules/system/boot/grow-partition.nix
    growpart = lib.mkIf config.boot.growPartition {
      description = "Grow the partition of the root file system";
      wantedBy = [ "-.mount" ];
      after = [ "-.mount" ];
      before = [ "systemd-growfs-root.service" ];
      path = [
        pkgs.gawk
        pkgs.cloud-utils.guest
        pkgs.util-linux
      ];
      unitConfig.DefaultDependencies = false;
      serviceConfig.Type = "oneshot";
      serviceConfig.RemainAfterExit = true;
      # 1: it is as large as it can be.
      serviceConfig.SuccessExitStatus = "0 1";
      script = ''
        device=$(readlink -f ${config.fileSystems."/".device})
        growpart "''${device%%[0-9]*}" "''${device##*[a-z]}"
      '';
    };
  };
}
