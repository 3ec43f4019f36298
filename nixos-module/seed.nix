# The host's data at each start: the VM's name and the keys that may log in, on a vfat disk with the label CIDATA.
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
      # The machine must have its name before it asks for a lease, and the keys must be there before sshd starts.
      before = [
        "network-pre.target"
        "sshd.service"
      ];
      after = [ "systemd-udev-trigger.service" ];
      path = [ pkgs.mtools ];
      environment = {
        SEED = "/dev/disk/by-label/CIDATA";
        KEYS = "/run/virshle/authorized_keys.d/${cfg.user}";
        # The file that gets the name. A name in the configuration wins over the host's name.
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
        # No other sources: to look for them takes minutes without a network.
        datasource_list = propose [
          "NoCloud"
          "None"
        ];
        # sshd has made its key already, and the host may know it.
        ssh_deletekeys = propose false;
        preserve_hostname = propose true;
        # network.nix sets up DHCP on every NIC.
        network.config = propose "disabled";
      };
    };
  })
]
