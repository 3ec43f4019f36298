# What the host says at each start: the VM's name and whose keys may enter, on a vfat disk labelled CIDATA.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.virshle.guest;
  inherit (import ./priority.nix lib) propose;
in
lib.mkMerge [
  {
    systemd.services.virshle-seed = {
      description = "Take name and keys from the host";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-pre.target" ];
      # A lease is asked for under the right name, and nobody is turned away for a key that is not there yet.
      before = [
        "network-pre.target"
        "sshd.service"
      ];
      after = [ "systemd-udev-trigger.service" ];
      path = [ pkgs.mtools ];
      environment = {
        SEED = "/dev/disk/by-label/CIDATA";
        KEYS = "/run/virshle/authorized_keys.d/${cfg.user}";
        # Where a name is written to; a name in the configuration goes before the host's.
        HOSTNAME_FILE = if config.networking.hostName == "" then "/proc/sys/kernel/hostname" else "/dev/null";
      };
      script = builtins.readFile ./seed.sh;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
    };
  }
  (lib.mkIf cfg.cloudInit {
    services.cloud-init = {
      enable = true;
      settings = {
        # No other is looked for, which takes minutes where there is no network.
        datasource_list = propose [
          "NoCloud"
          "None"
        ];
        # sshd has made its key, and the host may have been told.
        ssh_deletekeys = propose false;
        preserve_hostname = propose true;
        # DHCP is ours already, on every NIC.
        network.config = propose "disabled";
      };
    };
  })
]
